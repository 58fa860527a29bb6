//! Requests with values to be filled in.

use serde_json::{Map, Value};

use crate::rest::placeholder::Placeholder;
use crate::rest::template::{Template, TemplateForm, TemplateValues};

/// HTTP method of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RestMethod {
    Get,
    Post,
}

/// Request with values to be filled in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestTemplate {
    pub method: RestMethod,
    /// Path below `base_url`, or `{cursor}` alone, which is a whole URL then.
    pub target: Template,
    pub query: Vec<(String, Template)>,
    pub body: RequestBodyTemplate,
}

/// Body of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RequestBodyTemplate {
    None,
    /// `application/x-www-form-urlencoded`.
    Form(Vec<(String, Template)>),
    Json(JsonTemplate),
}

/// JSON in whose texts values are filled in. A text that is only `{page.offset}` or `{page.number}`
/// becomes a number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum JsonTemplate {
    Literal(Value),
    Text(Template),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl RequestTemplate {
    /// Returns all templates of the request.
    #[must_use]
    pub fn templates(&self) -> Vec<&Template> {
        let mut templates = vec![&self.target];
        templates.extend(self.query.iter().map(|(_, value)| value));
        match &self.body {
            RequestBodyTemplate::None => {}
            RequestBodyTemplate::Form(fields) => {
                templates.extend(fields.iter().map(|(_, value)| value));
            }
            RequestBodyTemplate::Json(json) => templates.extend(json.templates()),
        }
        templates
    }
}

impl JsonTemplate {
    /// Returns the JSON with all values filled in.
    ///
    /// # Errors
    /// A sentence that names a placeholder without a value.
    pub fn fill(&self, values: &TemplateValues<'_>) -> Result<Value, String> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Text(text) if text.is_only(&Placeholder::PageOffset) => {
                Ok(values.page.offset.into())
            }
            Self::Text(text) if text.is_only(&Placeholder::PageNumber) => {
                Ok(values.page.number.into())
            }
            Self::Text(text) => text.fill(values, TemplateForm::Plain).map(Value::String),
            Self::List(elements) => {
                let elements = elements.iter().map(|element| element.fill(values));
                elements.collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            Self::Object(members) => {
                let members = members
                    .iter()
                    .map(|(name, member)| member.fill(values).map(|value| (name.clone(), value)));
                members.collect::<Result<Map<_, _>, _>>().map(Value::Object)
            }
        }
    }

    /// Returns all templates in the JSON.
    #[must_use]
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Literal(_) => Vec::new(),
            Self::Text(text) => vec![text],
            Self::List(elements) => elements.iter().flat_map(Self::templates).collect(),
            Self::Object(members) => {
                members.iter().flat_map(|(_, member)| member.templates()).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rest::template::PageValues;
    use serde_json::json;

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    fn body() -> JsonTemplate {
        let text = |text| JsonTemplate::Text(template(text));
        JsonTemplate::Object(vec![
            ("offset".to_owned(), text("{page.offset}")),
            ("page".to_owned(), text("{page.number}")),
            ("name".to_owned(), text("page {page.number} of {part.id}")),
            (
                "list".to_owned(),
                JsonTemplate::List(vec![text("x"), JsonTemplate::Literal(json!(7))]),
            ),
        ])
    }

    #[test]
    fn json_is_filled_in_and_positions_are_numbers() {
        let options = BTreeMap::new();
        let values = TemplateValues {
            options: &options,
            credential: None,
            account: "me",
            part: Some("\"p\""),
            item: None,
            document: None,
            page: PageValues { offset: 100, number: 3 },
            cursor: None,
        };

        assert_eq!(
            body().fill(&values),
            Ok(json!({"offset": 100, "page": 3, "name": "page 3 of \"p\"", "list": ["x", 7]}))
        );
        let error = body().fill(&TemplateValues { part: None, ..values }).unwrap_err();
        assert_eq!(error, "{part.id} has no value in this request");
    }

    #[test]
    fn all_templates_of_a_request_are_returned() {
        let named = |text: &str| ("name".to_owned(), template(text));
        let request = |body| RequestTemplate {
            method: RestMethod::Post,
            target: template("/target"),
            query: vec![named("query")],
            body,
        };
        let texts = |body| {
            let request = request(body);
            request.templates().into_iter().map(|t| t.as_str().to_owned()).collect::<Vec<_>>()
        };

        assert_eq!(texts(RequestBodyTemplate::None), ["/target", "query"]);
        assert_eq!(
            texts(RequestBodyTemplate::Form(vec![named("form")])),
            ["/target", "query", "form"]
        );
        assert_eq!(
            texts(RequestBodyTemplate::Json(body()))[2..],
            ["{page.offset}", "{page.number}", "page {page.number} of {part.id}", "x"]
        );
    }
}
