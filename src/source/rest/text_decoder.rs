//! Sinks that read JSON while it arrives: a document that is a text in it, and one that is the JSON
//! itself.

use cynosure_engine::rest::{JsonPath, TextEncoding};
use cynosure_engine::{Cause, Failure};
use serde_json::Value;

use crate::source::Sink;
use crate::source::rest::base64_text::Base64Decoder;
use crate::source::rest::call::mismatch;
use crate::source::rest::json_scanner::{JsonScanner, JsonTextError, SKELETON_BYTES_MAX};
use crate::source::rest::json_text::EscapeDecoder;

/// Place and encoding of a document in a response, and the names for messages about it.
#[derive(Clone, Debug)]
pub(super) struct TextTarget<'a> {
    pub(super) at: &'a JsonPath,
    pub(super) encoding: TextEncoding,
    pub(super) host: &'a str,
    pub(super) profile_label: String,
}

/// Sink that decodes a text in JSON and writes it to another sink.
pub(super) struct TextDecoder<'a, S> {
    sink: &'a mut S,
    target: TextTarget<'a>,
    scanner: JsonScanner,
    content: ContentDecoder,
    /// Bytes decoded from the current chunk.
    decoded: Vec<u8>,
    /// True once a byte of the document was written.
    has_content: bool,
}

/// Sink that writes JSON to another sink, and keeps a skeleton of it while that is small.
pub(super) struct JsonTee<'a, S> {
    sink: &'a mut S,
    scanner: JsonScanner,
    is_large: bool,
}

/// Decoder of the content of a text.
#[derive(Debug, Default)]
struct ContentDecoder {
    escapes: EscapeDecoder,
    /// `None` for plain text.
    base64: Option<Base64Decoder>,
    /// Text without escapes, of the current part.
    unescaped: Vec<u8>,
}

impl<'a, S: Sink> TextDecoder<'a, S> {
    pub(super) fn new(sink: &'a mut S, target: TextTarget<'a>) -> Self {
        let path = target.at.parts().map(str::to_owned).collect();
        Self {
            sink,
            scanner: JsonScanner::new(Some(path)),
            content: ContentDecoder::new(target.encoding),
            target,
            decoded: Vec::new(),
            has_content: false,
        }
    }

    /// Returns the JSON with an empty text in place of the document.
    pub(super) fn envelope(&self) -> &[u8] {
        self.scanner.skeleton()
    }

    /// True if the JSON had a document at the path that is not empty.
    pub(super) fn has_content(&self) -> bool {
        self.has_content
    }

    /// Writes the end of the document, after the whole JSON was written and parsed.
    ///
    /// # Errors
    /// The JSON has no text at the path, or the text lacks its end.
    pub(super) async fn finish(&mut self) -> Result<(), Failure> {
        if !self.scanner.is_target_found() {
            return Err(self.missing_text());
        }
        self.decoded.clear();
        let result = self.content.finish(&mut self.decoded);
        result.map_err(|error| self.to_failure(error))?;
        self.write_decoded().await
    }

    async fn write_decoded(&mut self) -> Result<(), Failure> {
        if self.decoded.is_empty() {
            return Ok(());
        }
        self.has_content = true;
        self.sink.write(&self.decoded).await
    }

    fn missing_text(&self) -> Failure {
        let json: Option<Value> = serde_json::from_slice(self.scanner.skeleton()).ok();
        let found = json.as_ref().and_then(|json| self.target.at.first(json));
        let found = match found {
            None => "selects nothing in the response",
            Some(_) => "selects a value that is not a text",
        };
        self.mismatch(found)
    }

    fn to_failure(&self, error: JsonTextError) -> Failure {
        let TextTarget { at, encoding, host, .. } = &self.target;
        match error {
            JsonTextError::InvalidEncoding => {
                let encoding = match encoding {
                    TextEncoding::Base64 | TextEncoding::Base64Url => "base64",
                    TextEncoding::Plain => "text",
                };
                let message =
                    format!("the document of {host} at {:?} is not valid {encoding}", at.as_str());
                Failure::new(Cause::Truncated, message)
            }
            JsonTextError::SkeletonTooLarge => self.mismatch(&format!(
                "has more than {SKELETON_BYTES_MAX} bytes beside it in the response"
            )),
            JsonTextError::TooDeep => self.mismatch("is in JSON that nests too deep"),
            JsonTextError::DuplicateText => self.mismatch("selects two texts in the response"),
        }
    }

    fn mismatch(&self, problem: &str) -> Failure {
        let sentence = format!("`[fetch] body.at` = {:?} {problem}", self.target.at.as_str());
        mismatch(&self.target.profile_label, &sentence)
    }
}

impl<S: Sink> Sink for TextDecoder<'_, S> {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Self { scanner, content, decoded, .. } = self;
        decoded.clear();
        let result = scanner.push(bytes, |part| content.push(part, decoded));
        result.map_err(|error| self.to_failure(error))?;
        self.write_decoded().await
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        self.scanner.reset();
        self.content = ContentDecoder::new(self.target.encoding);
        self.has_content = false;
        self.sink.rewind().await
    }
}

impl<'a, S: Sink> JsonTee<'a, S> {
    pub(super) fn new(sink: &'a mut S) -> Self {
        Self { sink, scanner: JsonScanner::new(None), is_large: false }
    }

    /// Returns the JSON, with long texts cut. `None` if it is larger than any refusal.
    pub(super) fn envelope(&self) -> Option<&[u8]> {
        (!self.is_large).then(|| self.scanner.skeleton())
    }
}

impl<S: Sink> Sink for JsonTee<'_, S> {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.is_large = self.is_large || self.scanner.push(bytes, |_| Ok(())).is_err();
        self.sink.write(bytes).await
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        self.scanner.reset();
        self.is_large = false;
        self.sink.rewind().await
    }
}

impl ContentDecoder {
    fn new(encoding: TextEncoding) -> Self {
        let base64 = match encoding {
            TextEncoding::Base64 | TextEncoding::Base64Url => Some(Base64Decoder::default()),
            TextEncoding::Plain => None,
        };
        Self { base64, ..Self::default() }
    }

    fn push(&mut self, part: &[u8], decoded: &mut Vec<u8>) -> Result<(), JsonTextError> {
        match &mut self.base64 {
            Some(base64) => {
                self.unescaped.clear();
                self.escapes.push(part, &mut self.unescaped)?;
                base64.push(&self.unescaped, decoded)
            }
            None => self.escapes.push(part, decoded),
        }
    }

    fn finish(&self, decoded: &mut Vec<u8>) -> Result<(), JsonTextError> {
        self.escapes.finish()?;
        match &self.base64 {
            Some(base64) => base64.finish(decoded),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::source::rest::test_server::{MemoryDocument, block_on};

    const AT: &str = "/a/1/raw";

    /// Decodes the text of JSON that arrives in chunks of these lengths, in turn. Returns the
    /// document with the skeleton.
    #[expect(clippy::unwrap_in_result, reason = "a helper of tests panics")]
    fn decode(
        json: &str,
        encoding: TextEncoding,
        chunks: &[usize],
    ) -> Result<(Vec<u8>, Value), Failure> {
        let at = JsonPath::parse(AT).unwrap();
        let profile_label = "profile \"test\"".to_owned();
        let target = TextTarget { at: &at, encoding, host: "mail.example", profile_label };
        let mut document = MemoryDocument::default();
        let mut decoder = TextDecoder::new(&mut document, target);
        let (mut rest, mut lengths) = (json.as_bytes(), chunks.iter().cycle());
        let skeleton = block_on(async {
            // A first attempt that was cut off leaves nothing.
            decoder.write(&rest[..rest.len() / 2]).await.ok();
            decoder.rewind().await?;
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(rest.len().min(*lengths.next().unwrap()));
                decoder.write(chunk).await?;
                rest = after;
            }
            let skeleton = serde_json::from_slice(decoder.envelope()).unwrap();
            decoder.finish().await?;
            Ok::<_, Failure>(skeleton)
        })?;
        Ok((document.bytes, skeleton))
    }

    fn with_text(text: &str) -> Value {
        let document = json!({"x": ["[{\"", 1.5, null], "raw": text, "z": "é"});
        json!({"raw": "no", "a": [{"raw": "no"}, document]})
    }

    proptest! {
        #[test]
        fn base64_in_json_is_decoded_in_any_chunks(
            bytes in vec(any::<u8>(), 0..200),
            form in 0_usize..4,
            line in 1_usize..90,
            is_escaped: bool,
            chunks in vec(1_usize..40, 1..6),
        ) {
            let engines = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
            let encoded: Vec<char> = engines[form].encode(&bytes).chars().collect();
            let lines = encoded.chunks(line).map(|line| line.iter().collect());
            let lines: Vec<String> = lines.collect();
            let mut json = with_text(&lines.join("\r\n")).to_string();
            if is_escaped {
                json = json.replace('/', "\\/").replace('+', "\\u002b").replace('=', "\\u003D");
            }

            let (document, skeleton) = decode(&json, TextEncoding::Base64, &chunks).unwrap();

            prop_assert_eq!(document, bytes);
            prop_assert_eq!(skeleton, with_text(""));
        }

        #[test]
        fn plain_text_in_json_is_decoded_as_a_parser_does(
            text in "\\PC{0,60}|[\u{0}-\u{30}\"\\\\/😀é]{0,60}",
            chunks in vec(1_usize..20, 1..6),
        ) {
            let json = with_text(&text).to_string();

            let (document, skeleton) = decode(&json, TextEncoding::Plain, &chunks).unwrap();

            prop_assert_eq!(String::from_utf8(document).ok(), Some(text));
            prop_assert_eq!(skeleton, with_text(""));
        }
    }

    #[test]
    fn text_that_does_not_decode_is_truncated() {
        for text in ["QUJ", "QU*=", "QQ==QQ==", "A"] {
            let json = with_text(text).to_string();
            let failure = decode(&json, TextEncoding::Base64Url, &[7]).unwrap_err();

            assert_eq!(failure.cause, Cause::Truncated, "{text}");
            assert_eq!(
                failure.message,
                "the document of mail.example at \"/a/1/raw\" is not valid base64"
            );
        }
    }

    #[test]
    fn json_without_the_text_is_a_mismatch_that_quotes_the_path() {
        let two = r#"{"a": [0, {"raw": "QQ", "raw": "QQ"}]}"#.to_owned();
        let large = json!({"x": vec![1_000_000; 20_000], "a": [0, {"raw": "QQ"}]}).to_string();
        for (json, problem) in [
            ("{}".to_owned(), "selects nothing in the response"),
            (json!({"a": [0, {"raw": null}]}).to_string(), "selects nothing in the response"),
            (json!({"a": [0, {"raw": 7}]}).to_string(), "selects a value that is not a text"),
            (two, "selects two texts in the response"),
            (large, "has more than 65536 bytes beside it in the response"),
        ] {
            let failure = decode(&json, TextEncoding::Base64, &[1000]).unwrap_err();

            assert_eq!(failure.cause, Cause::Unknown);
            let expected = format!("profile \"test\": `[fetch] body.at` = \"/a/1/raw\" {problem}");
            assert_eq!(failure.message, expected);
        }
    }

    #[test]
    fn a_large_document_has_no_envelope() {
        let mut document = MemoryDocument::default();
        let mut tee = JsonTee::new(&mut document);
        block_on(async {
            tee.write(b"{\"status\": 200}").await.unwrap();
            assert_eq!(tee.envelope(), Some(&b"{\"status\": 200}"[..]));
            tee.rewind().await.unwrap();
            tee.write("1,".repeat(SKELETON_BYTES_MAX).as_bytes()).await.unwrap();
        });

        assert_eq!(tee.envelope(), None);
        assert_eq!(document.bytes.len(), 2 * SKELETON_BYTES_MAX);
    }
}
