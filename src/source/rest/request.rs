//! Builds HTTP requests from the templates of a profile.

use bytes::Bytes;
use cynosure_engine::rest::{
    PageTargetPlace, Placeholder, ProfileRules, RequestBodyTemplate, RestMethod, RowError,
    TableName, Template, TemplateForm, TemplateValues,
};
use cynosure_engine::{Cause, Failure};
use url::{Url, form_urlencoded};

use crate::source::http::{
    ExpectedContent, HeaderName, HeaderValue, HttpRequest, QuotaUse, RequestBody,
};
use crate::source::rest::auth::{
    RequestCredential, credential_fields, unusable_credential, without_parameters,
};
use crate::source::rest::call::{RestCall, profile_mismatch};
use crate::source::rest::source::RestSource;

/// Parts of a request with all values filled in.
pub(super) struct BuiltRequest {
    url: Url,
    body: RequestBody,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl RestSource {
    /// Fills the values into the templates of a request.
    pub(super) fn build_request(
        &self,
        call: &RestCall<'_>,
        credential: &RequestCredential,
    ) -> Result<BuiltRequest, Failure> {
        let fields = credential.fields.as_ref();
        let values = TemplateValues {
            options: &self.profile().options,
            credential: fields,
            account: &self.options.account_name,
            part: call.values.part,
            item: call.values.item,
            document: call.values.document,
            page: call.values.page,
            cursor: call.values.cursor,
        };
        let filler = Filler { rest: self, values };
        Ok(BuiltRequest {
            url: filler.url(call, credential)?,
            body: filler.body(call)?,
            headers: filler.headers()?,
        })
    }

    /// Returns the HTTP request of a table.
    pub(super) fn http_request<'a>(
        &'a self,
        built: &'a BuiltRequest,
        table: TableName,
        expected: ExpectedContent<'a>,
        credential: &'a RequestCredential,
    ) -> HttpRequest<'a> {
        let profile = self.profile();
        HttpRequest {
            body: built.body.clone(),
            headers: built.headers.clone(),
            quota: Some(QuotaUse { units: profile.weight(table) }),
            rules: Some(ProfileRules { rules: &profile.errors, table }),
            ok: profile.ok.as_ref(),
            ..HttpRequest::get(&built.url, expected, &credential.authorization)
        }
    }
}

/// Filler of the templates of one request.
struct Filler<'a> {
    rest: &'a RestSource,
    values: TemplateValues<'a>,
}

impl Filler<'_> {
    /// Returns the URL: that of the request with its parameters, or that of a link or a cursor.
    fn url(&self, call: &RestCall<'_>, credential: &RequestCredential) -> Result<Url, Failure> {
        let is_cursor = call.request.target.is_only(&Placeholder::Cursor);
        let cursor = call.values.cursor.filter(|_| is_cursor);
        if let Some(link) = call.url.or(cursor) {
            let mut url = self.resolve(link, call)?;
            // A cursor that is a URL may have pages by a parameter.
            let mut parameters = page_arguments(call, PageTargetPlace::Query);
            add_layer(&mut parameters, credential.query.clone());
            let is_replaced = |name: &str, _: &str| parameters.iter().any(|(own, _)| own == name);
            let kept = url.query().map(|query| without_parameters(query, is_replaced));
            url.set_query(kept.as_deref().filter(|query| !query.is_empty()));
            append_parameters(&mut url, &parameters);
            self.rest.client.check_origin(&url)?;
            return Ok(url);
        }
        let mut url = self.target(call)?;
        let mut parameters = self.fill_all(&self.rest.profile().query)?;
        add_layer(&mut parameters, self.fill_all(&call.request.query)?);
        add_layer(&mut parameters, page_arguments(call, PageTargetPlace::Query));
        add_layer(&mut parameters, credential.query.clone());
        append_parameters(&mut url, &parameters);
        Ok(url)
    }

    /// Returns the URL of a link, which is relative to that of the request.
    fn resolve(&self, link: &str, call: &RestCall<'_>) -> Result<Url, Failure> {
        let resolved = match Url::parse(link) {
            Err(url::ParseError::RelativeUrlWithoutBase) => {
                let is_cursor = call.request.target.is_only(&Placeholder::Cursor);
                let base = match call.values.cursor.filter(|_| is_cursor) {
                    Some(cursor) => self.rest.options.base_url.join(cursor).ok(),
                    None => Some(self.target(call)?),
                };
                base.and_then(|base| base.join(link).ok())
            }
            parsed => parsed.ok(),
        };
        resolved.ok_or_else(|| {
            let message = format!("{} sent a link or a cursor that is not a URL", self.rest.host());
            Failure::new(Cause::Challenge, message)
        })
    }

    /// Returns the URL of the request without parameters.
    fn target(&self, call: &RestCall<'_>) -> Result<Url, Failure> {
        let path = self.fill(&call.request.target, TemplateForm::Path)?;
        let base = self.rest.options.base_url.as_str().trim_end_matches('/');
        let text = if path.starts_with("https://") || path.starts_with("http://") {
            path
        } else if path.is_empty() || path.starts_with('?') {
            format!("{base}{path}")
        } else {
            format!("{base}/{}", path.trim_start_matches('/'))
        };
        Url::parse(&text).map_err(|_invalid| {
            let (table, target) = (call.table.name(), call.request.target.as_str());
            let sentence = format!("the path {target:?} of `[{table}]` makes no valid URL");
            profile_mismatch(self.rest, RowError(sentence))
        })
    }

    fn body(&self, call: &RestCall<'_>) -> Result<RequestBody, Failure> {
        match (call.request.method, &call.request.body) {
            (RestMethod::Get, _) => Ok(RequestBody::None),
            (RestMethod::Post, RequestBodyTemplate::None) => {
                Ok(form(&page_arguments(call, PageTargetPlace::Form)))
            }
            (RestMethod::Post, RequestBodyTemplate::Form(fields)) => {
                let mut fields = self.fill_all(fields)?;
                add_layer(&mut fields, page_arguments(call, PageTargetPlace::Form));
                Ok(form(&fields))
            }
            (RestMethod::Post, RequestBodyTemplate::Json(json)) => {
                let filled = json
                    .fill(&self.values)
                    .map_err(|error| self.failure(&json.templates(), error))?;
                Ok(RequestBody::Json(Bytes::from(filled.to_string())))
            }
        }
    }

    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, Failure> {
        let options = self.values.options;
        let headers = self.rest.profile().headers.iter().map(|(name, template)| {
            let value = self.fill(template, TemplateForm::Plain)?;
            let has_secret = !credential_fields(template, options).is_empty();
            let header = HeaderName::try_from(name.as_str()).ok();
            let value = HeaderValue::try_from(value).ok();
            let (Some(header), Some(mut value)) = (header, value) else {
                let problem =
                    format!("the header {name:?} has a name or a value that HTTP cannot carry");
                return Err(if has_secret {
                    unusable_credential(problem)
                } else {
                    profile_mismatch(self.rest, RowError(problem))
                });
            };
            value.set_sensitive(has_secret);
            Ok((header, value))
        });
        headers.collect()
    }

    fn fill_all(&self, templates: &[(String, Template)]) -> Result<Vec<(String, String)>, Failure> {
        let filled = templates
            .iter()
            .map(|(name, template)| Ok((name.clone(), self.fill(template, TemplateForm::Plain)?)));
        filled.collect()
    }

    fn fill(&self, template: &Template, form: TemplateForm) -> Result<String, Failure> {
        template.fill(&self.values, form).map_err(|error| self.failure(&[template], error))
    }

    /// Returns the failure of templates that cannot be filled in: that of the credential, if it
    /// lacks a field.
    fn failure(&self, templates: &[&Template], error: String) -> Failure {
        let TemplateValues { options, credential, .. } = self.values;
        let is_missing = |field: &str| credential.is_none_or(|fields| !fields.contains_key(field));
        let mut needed = templates.iter().flat_map(|template| credential_fields(template, options));
        if needed.any(is_missing) {
            return unusable_credential(format!("{error}: save the session again"));
        }
        profile_mismatch(self.rest, RowError(error))
    }
}

/// Returns the parameters of the page that stand in a part of the request.
fn page_arguments(call: &RestCall<'_>, place: PageTargetPlace) -> Vec<(String, String)> {
    let arguments = call.arguments.iter().filter(|(target, _)| target.place == place);
    arguments.map(|(target, value)| (target.name.clone(), value.clone())).collect()
}

/// Adds parameters, which replace those of the same names.
fn add_layer(parameters: &mut Vec<(String, String)>, layer: Vec<(String, String)>) {
    parameters.retain(|(name, _)| layer.iter().all(|(other, _)| other != name));
    parameters.extend(layer);
}

fn append_parameters(url: &mut Url, parameters: &[(String, String)]) {
    if !parameters.is_empty() {
        url.query_pairs_mut().extend_pairs(parameters);
    }
}

fn form(fields: &[(String, String)]) -> RequestBody {
    let mut serializer = form_urlencoded::Serializer::new(String::new());
    serializer.extend_pairs(fields);
    RequestBody::Form(Bytes::from(serializer.finish()))
}
