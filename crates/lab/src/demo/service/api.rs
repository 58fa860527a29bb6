//! API endpoint: requests, their limits, and references from one call to an earlier one.

use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::response::{self, ResponseBody};
use super::session::{CALLS_IN_REQUEST_MAX, CORE_CAPABILITY, MAIL_CAPABILITY, SESSION_STATE};

pub(super) type Arguments = Map<String, Value>;

/// Request object (RFC 8620 §3.3).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JmapRequest {
    using: Vec<String>,
    pub(super) method_calls: Vec<(String, Arguments, String)>,
}

/// Method-level error (RFC 8620 §3.6.2).
#[derive(Debug, Eq, PartialEq)]
pub(super) struct DemoMethodError {
    pub(super) kind: &'static str,
    pub(super) description: String,
}

impl DemoMethodError {
    pub(super) fn new(kind: &'static str, description: impl Into<String>) -> Self {
        Self { kind, description: description.into() }
    }

    pub(super) fn invalid(description: impl Into<String>) -> Self {
        Self::new("invalidArguments", description)
    }
}

/// Parses a request, or returns the error response.
pub(super) fn parse(body: &[u8]) -> Result<JmapRequest, Box<Response<ResponseBody>>> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| request_error("notJSON", &error.to_string(), None))?;
    let request: JmapRequest = serde_json::from_value(value)
        .map_err(|error| request_error("notRequest", &error.to_string(), None))?;
    if let Some(unknown) = request
        .using
        .iter()
        .find(|name| ![CORE_CAPABILITY, MAIL_CAPABILITY].contains(&name.as_str()))
    {
        return Err(request_error("unknownCapability", unknown, None));
    }
    if CALLS_IN_REQUEST_MAX < request.method_calls.len() {
        let detail = format!("at most {CALLS_IN_REQUEST_MAX} calls, please");
        return Err(request_error("limit", &detail, Some("maxCallsInRequest")));
    }
    Ok(request)
}

pub(super) fn request_error(
    kind: &str,
    detail: &str,
    limit: Option<&str>,
) -> Box<Response<ResponseBody>> {
    let kind = format!("urn:ietf:params:jmap:error:{kind}");
    Box::new(response::problem_response(StatusCode::BAD_REQUEST, &kind, detail, limit))
}

/// Executes the calls in order, and returns the Response object (RFC 8620 §3.4).
pub(super) fn execute(
    request: JmapRequest,
    mut call: impl FnMut(&str, &Arguments) -> Result<Value, DemoMethodError>,
) -> Value {
    let mut responses: Vec<(String, Value, String)> = Vec::new();
    for (name, arguments, id) in request.method_calls {
        let result =
            resolve_references(arguments, &responses).and_then(|arguments| call(&name, &arguments));
        responses.push(match result {
            Ok(value) => (name, value, id),
            Err(error) => {
                let error = json!({ "type": error.kind, "description": error.description });
                ("error".to_owned(), error, id)
            }
        });
    }
    json!({ "methodResponses": responses, "sessionState": SESSION_STATE })
}

/// Replaces each argument `#name` by the value it refers to (RFC 8620 §3.7).
fn resolve_references(
    arguments: Arguments,
    responses: &[(String, Value, String)],
) -> Result<Arguments, DemoMethodError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Reference {
        result_of: String,
        name: String,
        path: String,
    }
    let mut resolved = Arguments::new();
    for (name, value) in arguments {
        let (name, value) = match name.strip_prefix('#') {
            None => (name, value),
            Some(name) => {
                let invalid_reference = || DemoMethodError::new("invalidResultReference", name);
                let reference: Reference = serde_json::from_value(value)
                    .map_err(|error| DemoMethodError::invalid(error.to_string()))?;
                let (_, source, _) = responses
                    .iter()
                    .find(|(method, _, id)| *id == reference.result_of && *method == reference.name)
                    .ok_or_else(invalid_reference)?;
                let path = reference.path.strip_prefix('/').ok_or_else(invalid_reference)?;
                let target = resolve_pointer(source, path).ok_or_else(invalid_reference)?;
                (name.to_owned(), target)
            }
        };
        if resolved.insert(name, value).is_some() {
            return Err(DemoMethodError::invalid("an argument is given twice"));
        }
    }
    Ok(resolved)
}

/// Resolves a JSON pointer (RFC 6901, without its escapes) in which `*` selects every element of an
/// array. The arrays that it leads to are joined.
fn resolve_pointer(value: &Value, path: &str) -> Option<Value> {
    let (token, rest) =
        path.split_once('/').map_or((path, None), |(token, rest)| (token, Some(rest)));
    let next =
        |value| rest.map_or_else(|| Some(Value::clone(value)), |rest| resolve_pointer(value, rest));
    match value {
        Value::Array(items) if token == "*" => {
            let mut joined = Vec::new();
            for item in items {
                match next(item)? {
                    Value::Array(inner) => joined.extend(inner),
                    other @ (Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::String(_)
                    | Value::Object(_)) => joined.push(other),
                }
            }
            Some(Value::Array(joined))
        }
        Value::Array(items) => next(items.get(token.parse::<usize>().ok()?)?),
        Value::Object(fields) => next(fields.get(token)?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_joins_the_arrays_behind_it() {
        let value = json!({ "ids": ["c"], "list": [
            { "threadId": "x", "emailIds": ["a", "b"] },
            { "threadId": "y", "emailIds": ["c"] },
        ]});

        assert_eq!(resolve_pointer(&value, "list/*/emailIds"), Some(json!(["a", "b", "c"])));
        assert_eq!(resolve_pointer(&value, "list/*/threadId"), Some(json!(["x", "y"])));
        assert_eq!(resolve_pointer(&value, "list/1/threadId"), Some(json!("y")));
        assert_eq!(resolve_pointer(&value, "ids"), Some(json!(["c"])));
        assert_eq!(resolve_pointer(&value, "list/*/nothing"), None);
        assert_eq!(resolve_pointer(&value, "ids/0/deeper"), None);
    }

    #[test]
    fn a_reference_to_a_failed_call_fails_that_call_alone() {
        let request = json!({ "using": [CORE_CAPABILITY], "methodCalls": [
            ["A", {}, "a"],
            ["B", { "#ids": { "resultOf": "a", "name": "A", "path": "/ids" } }, "b"],
            ["B", { "ids": [1] }, "c"],
        ]});
        let request = parse(request.to_string().as_bytes()).unwrap();

        let response = execute(request, |name, arguments| match name {
            "A" => Err(DemoMethodError::invalid("no")),
            _ => Ok(json!({ "got": arguments["ids"] })),
        });

        let responses = &response["methodResponses"];
        assert_eq!(responses[1][0], "error");
        assert_eq!(responses[1][1]["type"], "invalidResultReference");
        assert_eq!(responses[2], json!(["B", { "got": [1] }, "c"]));
    }
}
