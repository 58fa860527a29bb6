//! Fetches one document, and separates failures of the document from failures of the service.

use cynosure_engine::rest::{FetchBody, FetchTable, RestProfile, TableName, select_ids};
use cynosure_engine::{Cause, Failure};
use serde_json::Value;

use crate::limiter::AttemptKind;
use crate::source::http::{ExpectedContent, HttpRequest};
use crate::source::rest::auth::RequestCredential;
use crate::source::rest::blob;
use crate::source::rest::call::{RestCall, as_service_failure};
use crate::source::rest::document_sink::DocumentSink;
use crate::source::rest::name_folders::{names_of, prepare_names};
use crate::source::rest::not_found::resolve_not_found;
use crate::source::rest::source::RestSource;
use crate::source::rest::text_decoder::{JsonTee, TextDecoder, TextTarget};
use crate::source::{DocumentRef, FetchOutcome, Sink};

/// Document whose bytes are in the sink.
#[derive(Debug)]
struct FetchedBody {
    bytes: u64,
    /// Ids of its folders, if the response reports them.
    folder_ids: Option<Vec<String>>,
}

/// Writes a document to `sink`.
pub(super) async fn fetch(
    rest: &RestSource,
    document: &DocumentRef,
    sink: &mut impl Sink,
) -> Result<FetchOutcome, Failure> {
    let profile = rest.profile();
    let table = &profile.tables.fetch;
    let request = match (&table.body, &table.request) {
        (FetchBody::Row, _) | (_, None) => return write_row(rest, document, sink).await,
        (FetchBody::Bytes | FetchBody::Json | FetchBody::Text { .. }, Some(request)) => request,
    };
    let values = blob::from_blob(profile, &document.document, &document.blob);
    let values = values.ok_or_else(|| unknown_blob(rest))?;
    // The semaphore is never closed, and sending without a permit would be harmless.
    let _permit = rest.fetch_permits.acquire().await.ok();
    rest.account_id().await.map_err(as_service_failure)?;
    if !table.folder.is_empty() {
        prepare_names(rest).await.map_err(as_service_failure)?;
    }
    let credential = rest.request_credential().await?;
    let call = RestCall {
        table: TableName::Fetch,
        request,
        values: values.as_call_values(),
        arguments: Vec::new(),
        url: None,
    };
    let built = rest.build_request(&call, &credential)?;
    let expected = expected_content(profile);
    let request = rest.http_request(&built, TableName::Fetch, expected, &credential);
    match fetch_body(rest, &request, &credential, document, sink).await {
        Ok(FetchedBody { bytes, folder_ids }) => {
            rest.gone_in_a_row.set(Some(0));
            let folders = match folder_ids {
                Some(ids) => names_of(rest, &ids).await.map_err(as_service_failure)?,
                None => Vec::new(),
            };
            Ok(FetchOutcome::Complete { bytes, folders })
        }
        Err(failure) if failure.cause == Cause::NotFound => {
            Err(resolve_not_found(rest, &values, failure).await)
        }
        Err(failure) => Err(failure),
    }
}

/// Returns the content type that a response with a document must have.
fn expected_content(profile: &RestProfile) -> ExpectedContent<'_> {
    let table = &profile.tables.fetch;
    if !table.media_types.is_empty() {
        return ExpectedContent::Types(&table.media_types);
    }
    let of_all = profile.ok.as_ref().and_then(|ok| ok.media_type.as_ref());
    match (&table.body, of_all) {
        // The type of all responses is that of JSON, which no document is here.
        (FetchBody::Bytes | FetchBody::Row, _) => ExpectedContent::Document,
        (FetchBody::Json | FetchBody::Text { .. }, Some(media_type)) => {
            ExpectedContent::Types(std::slice::from_ref(media_type))
        }
        (FetchBody::Json | FetchBody::Text { .. }, None) => ExpectedContent::JsonDocument,
    }
}

/// Sends the request, and writes the document in the response to `sink`.
async fn fetch_body(
    rest: &RestSource,
    request: &HttpRequest<'_>,
    credential: &RequestCredential,
    document: &DocumentRef,
    sink: &mut impl Sink,
) -> Result<FetchedBody, Failure> {
    let table = &rest.profile().tables.fetch;
    let mut checked = DocumentSink::new(sink, table, rest.host());
    let first = if document.is_suspect { AttemptKind::Suspect } else { AttemptKind::First };
    let DocumentRef { size, strikes, .. } = document;
    let folder_ids = match &table.body {
        FetchBody::Bytes | FetchBody::Row => {
            rest.client.fetch_streaming(request, *size, *strikes, first, &mut checked).await?;
            None
        }
        FetchBody::Json => {
            let mut tee = JsonTee::new(&mut checked);
            rest.client
                .fetch_enveloped(request, *size, *strikes, first, &mut tee, |tee| tee.envelope())
                .await?;
            tee.envelope().and_then(|json| read_folder_ids(table, json, credential))
        }
        FetchBody::Text { at, encoding } => {
            let target = TextTarget {
                at,
                encoding: *encoding,
                host: rest.host(),
                profile_label: rest.profile_label(),
            };
            let mut decoder = TextDecoder::new(&mut checked, target);
            let fetched = rest
                .client
                .fetch_enveloped(request, None, *strikes, first, &mut decoder, |decoder| {
                    Some(decoder.envelope())
                })
                .await;
            fetched.map_err(|failure| as_ambiguous(failure, decoder.has_content()))?;
            decoder.finish().await?;
            read_folder_ids(table, decoder.envelope(), credential)
        }
    };
    let length = checked.finish()?;
    match size {
        Some(size) if *size != length => {
            let host = rest.host();
            let message = format!("{host} sent {length} bytes of a document of {size} bytes");
            Err(Failure::new(Cause::Truncated, message))
        }
        Some(_) | None => Ok(FetchedBody { bytes: length, folder_ids }),
    }
}

/// Returns the ids of the folders in the JSON of a response. `None` if the profile has no path to
/// them.
fn read_folder_ids(
    table: &FetchTable,
    json: &[u8],
    credential: &RequestCredential,
) -> Option<Vec<String>> {
    if table.folder.is_empty() {
        return None;
    }
    let mut json: Value = serde_json::from_slice(json).ok()?;
    credential.remove_secrets(&mut json);
    Some(select_ids(&table.folder, &json))
}

/// Changes the cause of a failure that says that a document does not exist, although the response
/// has one.
fn as_ambiguous(failure: Failure, has_document: bool) -> Failure {
    if has_document && failure.cause == Cause::NotFound {
        return Failure { cause: Cause::Unknown, ..failure };
    }
    failure
}

/// Writes the row of the listing that is the document.
async fn write_row(
    rest: &RestSource,
    document: &DocumentRef,
    sink: &mut impl Sink,
) -> Result<FetchOutcome, Failure> {
    let Some(row) = &document.content else {
        let message = "the ledger does not have the row that is the document; only a full listing \
                       brings it back";
        return Err(Failure::new(Cause::Unknown, message));
    };
    let mut checked = DocumentSink::new(sink, &rest.profile().tables.fetch, rest.host());
    checked.write(row.as_bytes()).await?;
    Ok(FetchOutcome::Complete { bytes: checked.finish()?, folders: Vec::new() })
}

fn unknown_blob(rest: &RestSource) -> Failure {
    let message = format!(
        "{}: the id of the document was made by another profile and lacks values that `[fetch]` \
         needs; a full listing corrects it",
        rest.profile_label()
    );
    Failure::new(Cause::Unknown, message)
}

#[cfg(test)]
mod tests {
    use cynosure_engine::rest::{JsonPath, OkRule, TextEncoding};
    use cynosure_engine::{BlobId, Scalar};

    use super::*;
    use crate::source::rest::not_found::GONE_IN_A_ROW_MAX;
    use crate::source::rest::test_server::{
        MemoryDocument, ScriptedHttpServer, bytes_table, document, gone_rule, json_response,
        listing, open_source, profile, response,
    };

    const MAIL: &str = "Subject: a\r\n\r\nb";

    /// `MAIL` as base64url.
    const MAIL_BASE64: &str = "U3ViamVjdDogYQ0KDQpi";

    fn text_table() -> FetchTable {
        let at = JsonPath::parse("/raw").unwrap();
        let body = FetchBody::Text { at, encoding: TextEncoding::Base64Url };
        FetchTable { body, ..bytes_table("/raw/{document.id}") }
    }

    /// Adds the sign of success `"status": 200`.
    fn with_ok(profile: RestProfile) -> RestProfile {
        let at = JsonPath::parse("/status").unwrap();
        let ok = OkRule { at, is: vec![Scalar::Integer(200)], media_type: None };
        RestProfile { ok: Some(ok), ..profile }
    }

    /// Fetches the document `m1`. Returns the bytes in the sink, and the result.
    async fn fetch_m1(rest: &RestSource) -> (String, Result<FetchOutcome, Failure>) {
        fetch_document(rest, &document("m1")).await
    }

    async fn fetch_document(
        rest: &RestSource,
        document: &DocumentRef,
    ) -> (String, Result<FetchOutcome, Failure>) {
        let mut sink = MemoryDocument::default();
        let result = fetch(rest, document, &mut sink).await;
        (String::from_utf8(sink.bytes).unwrap(), result)
    }

    /// Returns the cause of the failure of a fetch from a server that always sends this.
    async fn failure_of(profile: RestProfile, bytes: Vec<u8>) -> Failure {
        let server = ScriptedHttpServer::start(move |_| bytes.clone()).await;
        Box::pin(fetch_m1(&open_source(&server, profile))).await.1.unwrap_err()
    }

    fn complete(text: &str) -> (String, Result<FetchOutcome, Failure>) {
        let (bytes, folders) = (text.len() as u64, Vec::new());
        (text.to_owned(), Ok(FetchOutcome::Complete { bytes, folders }))
    }

    #[tokio::test]
    async fn a_whole_response_is_a_document() {
        let mail = response("200 OK", "message/rfc822", MAIL);
        let server = ScriptedHttpServer::start(move |_| mail.clone()).await;
        let rest = open_source(&server, with_ok(profile(bytes_table("/raw/{document.id}"))));

        assert_eq!(fetch_m1(&rest).await, complete(MAIL));
        assert_eq!(server.targets(), ["GET /api/raw/m1"]);
        let sized = DocumentRef { size: Some(7), ..document("m1") };
        let failure = fetch_document(&rest, &sized).await.1.unwrap_err();
        assert_eq!(failure.cause, Cause::Truncated);
    }

    #[tokio::test]
    async fn only_the_declared_types_are_documents() {
        let any = || profile(bytes_table("/raw/{document.id}"));
        let types = vec!["message/rfc822".to_owned()];
        let mail = FetchTable { media_types: types, ..bytes_table("/raw/{document.id}") };
        let page = |media_type| response("200 OK", media_type, MAIL);

        assert_eq!(failure_of(any(), page("text/html")).await.cause, Cause::Challenge);
        assert_eq!(failure_of(profile(mail), page("text/plain")).await.cause, Cause::Challenge);
        let start = FetchTable { must_start_with_header: true, ..bytes_table("/{document.id}") };
        let no_mail = response("200 OK", "text/plain", "no mail");
        assert_eq!(failure_of(profile(start), no_mail).await.cause, Cause::Challenge);
    }

    #[tokio::test]
    async fn json_in_place_of_a_document_is_what_it_reports() {
        for (body, cause) in [
            (r#"{"status": 429}"#, Cause::RateLimit),
            (r#"{"status": 503}"#, Cause::Server),
            (r#"{"status": 404}"#, Cause::Server),
            (r#"{"status": 200}"#, Cause::Challenge),
            (r#"{"status": 4"#, Cause::Challenge),
            ("{}", Cause::Unknown),
        ] {
            let profile = with_ok(profile(bytes_table("/raw/{document.id}")));
            let failure = failure_of(profile, json_response("200 OK", body)).await;

            assert_eq!(failure.cause, cause, "{body}");
        }
    }

    #[tokio::test]
    async fn a_text_in_json_is_decoded() {
        let body = format!(r#"{{"id": "m1", "raw": "{MAIL_BASE64}", "status": 200}}"#);
        let server = ScriptedHttpServer::start(move |_| json_response("200 OK", &body)).await;

        for profile in [profile(text_table()), with_ok(profile(text_table()))] {
            let rest = open_source(&server, profile);
            assert_eq!(fetch_m1(&rest).await, complete(MAIL));
            let sized = DocumentRef { size: Some(7), ..document("m1") };
            let failure = fetch_document(&rest, &sized).await.1.unwrap_err();
            assert_eq!(failure.cause, Cause::Truncated);
        }
    }

    #[tokio::test]
    async fn json_without_the_document_is_never_stored() {
        let mail = |status| format!(r#"{{"raw": "{MAIL_BASE64}", "status": {status}}}"#);
        for (body, cause) in [
            (r#"{"status": 429}"#.to_owned(), Cause::RateLimit),
            (r#"{"status": 404}"#.to_owned(), Cause::Server),
            (r#"{"status": 200}"#.to_owned(), Cause::Unknown),
            (r#"{"status": 200, "raw": "QU*"}"#.to_owned(), Cause::Truncated),
            (r#"{"status": 200, "raw": "QUI"#.to_owned(), Cause::Truncated),
            ("<html>".to_owned(), Cause::Challenge),
            (mail("503"), Cause::Server),
            // The status contradicts the document, so it does not count as gone.
            (mail("404"), Cause::Unknown),
        ] {
            let profile = with_ok(profile(text_table()));
            let failure = failure_of(profile, json_response("200 OK", &body)).await;

            assert_eq!(failure.cause, cause, "{body}");
        }
        let failure = failure_of(profile(text_table()), json_response("200 OK", "{}")).await;
        assert!(failure.message.contains("`[fetch] body.at` = \"/raw\""), "{failure}");
    }

    #[tokio::test]
    async fn json_may_be_the_document() {
        let table = FetchTable { body: FetchBody::Json, ..bytes_table("/raw/{document.id}") };
        let body = r#"{"text": "…", "status": 200}"#;
        let server = ScriptedHttpServer::start(move |_| json_response("200 OK", body)).await;
        let rest = open_source(&server, with_ok(profile(table.clone())));

        assert_eq!(fetch_m1(&rest).await, complete(body));
        let refused = json_response("200 OK", r#"{"status": 503}"#);
        assert_eq!(failure_of(with_ok(profile(table)), refused).await.cause, Cause::Server);
    }

    #[tokio::test]
    async fn a_row_is_written_without_a_request() {
        let server = ScriptedHttpServer::start(|_| json_response("200 OK", "{}")).await;
        let table = FetchTable { request: None, body: FetchBody::Row, ..bytes_table("") };
        let rest = open_source(&server, profile(table));
        let row = DocumentRef { content: Some(r#"{"id":1}"#.to_owned()), ..document("m1") };

        assert_eq!(fetch_document(&rest, &row).await, complete(r#"{"id":1}"#));
        let failure = fetch_m1(&rest).await.1.unwrap_err();
        assert!(failure.message.contains("only a full listing"), "{failure}");
        assert_eq!(server.requests().len(), 0);
    }

    #[tokio::test]
    async fn a_404_alone_counts_while_others_are_fetched() {
        let server = ScriptedHttpServer::start(|request| {
            if request.contains("/m2 ") {
                return response("200 OK", "message/rfc822", MAIL);
            }
            json_response(if request.contains("/m1 ") { "404 None" } else { "410 Gone" }, "{}")
        })
        .await;
        let rest = open_source(&server, profile(bytes_table("/raw/{document.id}")));
        let cause_of = async |id| fetch_document(&rest, &document(id)).await.1.map_err(|f| f.cause);

        assert_eq!(cause_of("m1").await, Err(Cause::Server), "nothing was fetched yet");
        cause_of("m2").await.unwrap();
        assert_eq!(cause_of("m1").await, Err(Cause::NotFound));
        assert_eq!(cause_of("m3").await, Err(Cause::NotFound));
    }

    #[tokio::test]
    async fn a_rule_of_the_profile_makes_a_document_gone() {
        let errors = vec![gone_rule()];
        let profile = RestProfile { errors, ..profile(bytes_table("/raw/{document.id}")) };

        assert_eq!(
            failure_of(profile, json_response("404 None", "{}")).await.cause,
            Cause::NotFound
        );
    }

    /// Returns a profile that asks for the documents of an item, and a document of one.
    fn item_profile() -> (RestProfile, DocumentRef) {
        let mut profile = profile(bytes_table("/threads/{item.id}/{document.id}"));
        profile.tables.documents = Some(listing("/threads/{item.id}"));
        let blob = BlobId::new(r#"["m1","t1",null,[]]"#);
        (profile, DocumentRef { blob, ..document("m1") })
    }

    #[tokio::test]
    async fn a_document_that_is_still_listed_is_not_gone() {
        let (profile, m1) = item_profile();
        for (rows, cause) in [
            (r#"{"items": [{"id": "m0"}, {"id": "m1"}]}"#, Cause::Server),
            (r#"{"items": [{"id": "m0"}]}"#, Cause::NotFound),
            ("{}", Cause::Unknown),
        ] {
            let server = ScriptedHttpServer::start(move |request| {
                if request.starts_with("GET /api/threads/t1 ") {
                    return json_response("200 OK", rows);
                }
                json_response("404 None", "{}")
            })
            .await;
            let rest = open_source(&server, profile.clone());

            let failure = fetch_document(&rest, &m1).await.1.unwrap_err();

            assert_eq!(failure.cause, cause, "{failure}");
            assert_eq!(server.targets(), ["GET /api/threads/t1/m1", "GET /api/threads/t1"]);
        }
    }

    #[tokio::test]
    async fn a_404_for_everything_makes_nothing_gone() {
        let (profile, m1) = item_profile();
        let server = ScriptedHttpServer::start(|request| {
            if request.contains("/m2 ") {
                return response("200 OK", "message/rfc822", MAIL);
            }
            json_response("404 None", "{}")
        })
        .await;
        let rest = open_source(&server, profile);
        let blob = BlobId::new(r#"["m2","t1",null,[]]"#);
        let m2 = DocumentRef { blob, ..document("m2") };

        let causes = async |document: &DocumentRef| {
            fetch_document(&rest, document).await.1.map_err(|failure| failure.cause)
        };
        assert_eq!(causes(&m1).await, Err(Cause::Server));
        assert_eq!(causes(&m1).await, Err(Cause::Server));
        causes(&m2).await.unwrap();
        for _ in 0..GONE_IN_A_ROW_MAX {
            assert_eq!(causes(&m1).await, Err(Cause::NotFound), "others are fetched");
        }
        assert_eq!(causes(&m1).await, Err(Cause::Server));
    }

    #[tokio::test]
    async fn a_blob_of_another_profile_is_an_error_that_says_so() {
        let (profile, m1) = item_profile();
        let server = ScriptedHttpServer::start(|_| json_response("200 OK", "{}")).await;
        let document = DocumentRef { blob: BlobId::new("other"), ..m1 };

        let rest = open_source(&server, profile);
        let failure = fetch_document(&rest, &document).await.1.unwrap_err();

        assert!(failure.message.contains("another profile"), "{failure}");
        assert_eq!(server.requests().len(), 0);
    }
}
