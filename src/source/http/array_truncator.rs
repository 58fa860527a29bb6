//! Truncates long arrays in a JSON text while it arrives, so that data beyond a limit is never held
//! in memory.

use bytes::BytesMut;

/// Maximum depth at which arrays are kept whole: those around the method responses (RFC 8620 §3.4).
const UNTRUNCATED_DEPTH_MAX: usize = 3;

/// Maximum depth that is tracked. The parser rejects deeper JSON (`serde_json`'s recursion limit).
const TRACKED_DEPTH_MAX: usize = 128;

/// Maximum part of a response that is held in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BufferLimits {
    /// Maximum elements of an array, at least one; later elements are dropped.
    pub max_elements: usize,
    /// Maximum bytes that are not dropped.
    pub max_bytes: u64,
}

impl BufferLimits {
    /// Returns the limit of the bytes alone.
    #[must_use]
    pub const fn bytes(max_bytes: u64) -> Self {
        Self { max_elements: usize::MAX, max_bytes }
    }

    /// True if arrays are kept whole.
    pub(super) fn keeps_elements(self) -> bool {
        self.max_elements == usize::MAX
    }
}

/// Streaming truncator with its position in the JSON text.
#[derive(Debug)]
pub(super) struct ArrayTruncator {
    max_elements: usize,
    /// Open arrays, each with the number of its separators so far, and open objects.
    nesting: Vec<NestingLevel>,
    string_state: StringState,
    /// Depth of the array whose remaining elements are being dropped.
    dropping_depth: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum NestingLevel {
    Array { separators: usize },
    Object,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum StringState {
    Outside,
    Inside,
    /// After a backslash.
    Escaped,
}

impl ArrayTruncator {
    pub(super) fn new(limits: BufferLimits) -> Self {
        Self {
            max_elements: limits.max_elements,
            nesting: Vec::new(),
            string_state: StringState::Outside,
            dropping_depth: None,
        }
    }

    /// Appends the kept part of the next chunk to `kept`. Invalid JSON is kept, so that its parser
    /// rejects it.
    pub(super) fn push_chunk(&mut self, chunk: &[u8], kept: &mut BytesMut) {
        let mut begin = self.dropping_depth.is_none().then_some(0);
        for (at, byte) in chunk.iter().enumerate() {
            self.advance(*byte);
            match (begin, self.dropping_depth) {
                (Some(from), Some(_)) => {
                    kept.extend_from_slice(&chunk[from..at]);
                    begin = None;
                }
                (None, None) => begin = Some(at),
                (Some(_), None) | (None, Some(_)) => {}
            }
        }
        if let Some(from) = begin {
            kept.extend_from_slice(&chunk[from..]);
        }
    }

    fn advance(&mut self, byte: u8) {
        match (self.string_state, byte) {
            (StringState::Escaped, _) | (StringState::Outside, b'"') => {
                self.string_state = StringState::Inside;
            }
            (StringState::Inside, b'\\') => self.string_state = StringState::Escaped,
            (StringState::Inside, b'"') => self.string_state = StringState::Outside,
            (StringState::Outside, b'[') => self.push_level(NestingLevel::Array { separators: 0 }),
            (StringState::Outside, b'{') => self.push_level(NestingLevel::Object),
            (StringState::Outside, b']' | b'}') => {
                if self.dropping_depth == Some(self.nesting.len()) {
                    self.dropping_depth = None;
                }
                self.nesting.pop();
            }
            (StringState::Outside, b',') => self.on_separator(),
            (StringState::Inside | StringState::Outside, _) => {}
        }
    }

    fn push_level(&mut self, level: NestingLevel) {
        if self.nesting.len() < TRACKED_DEPTH_MAX {
            self.nesting.push(level);
        }
    }

    /// Counts a separator, and starts dropping at the limit.
    fn on_separator(&mut self) {
        let depth = self.nesting.len();
        if let (None, Some(NestingLevel::Array { separators })) =
            (self.dropping_depth, self.nesting.last_mut())
        {
            *separators += 1;
            if UNTRUNCATED_DEPTH_MAX < depth && self.max_elements <= *separators {
                self.dropping_depth = Some(depth);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn truncate_text(text: &str, elements: usize, chunk: usize) -> String {
        let mut truncator =
            ArrayTruncator::new(BufferLimits { max_elements: elements, max_bytes: u64::MAX });
        let mut kept = BytesMut::new();
        text.as_bytes().chunks(chunk).for_each(|part| truncator.push_chunk(part, &mut kept));
        String::from_utf8(kept.to_vec()).unwrap()
    }

    fn query_response(ids: &Value) -> Value {
        json!({"methodResponses": [["Email/query", {"ids": ids, "total": 7}, "0"]], "sessionState": "s"})
    }

    #[test]
    fn elements_beyond_the_limit_are_dropped() {
        let text = query_response(&json!(["a", "],\"[", {"b": [1, 2, 3]}, "d"])).to_string();

        let kept: Value = serde_json::from_str(&truncate_text(&text, 2, 3)).unwrap();

        assert_eq!(kept, query_response(&json!(["a", "],\"["])));
    }

    /// FAULTS 53: the server ignores `limit`.
    #[test]
    fn two_million_ids_are_truncated_to_five_hundred() {
        let mut truncator =
            ArrayTruncator::new(BufferLimits { max_elements: 500, max_bytes: u64::MAX });
        let mut kept = BytesMut::new();
        truncator.push_chunk(br#"{"methodResponses":[["Email/query",{"ids":["first""#, &mut kept);
        for id in 0..2_000_000 {
            truncator.push_chunk(format!(r#","M{id:019}""#).as_bytes(), &mut kept);
        }
        truncator.push_chunk(br#"],"total":2000001},"0"]]}"#, &mut kept);

        assert!(kept.len() < 12_000 && kept.capacity() < 64_000, "{}", kept.capacity());
        let kept: Value = serde_json::from_slice(&kept).unwrap();
        let response = &kept["methodResponses"][0][1];
        assert_eq!(response["ids"].as_array().unwrap().len(), 500);
        assert_eq!(response["total"], 2_000_001);
    }

    #[test]
    fn tracked_nesting_depth_is_bounded() {
        let mut truncator =
            ArrayTruncator::new(BufferLimits { max_elements: 1, max_bytes: u64::MAX });

        truncator.push_chunk(&[b'['; 100_000], &mut BytesMut::new());

        assert_eq!(truncator.nesting.len(), TRACKED_DEPTH_MAX);
    }

    /// Returns a strategy for JSON whose strings contain JSON syntax.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[\\[\\]{},:\"\\\\a]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-c\\[\",]{1,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn truncate_value(value: Value, elements: usize, depth: usize) -> Value {
        match value {
            Value::Array(list) => {
                let limit = if UNTRUNCATED_DEPTH_MAX < depth { elements } else { usize::MAX };
                let kept = list.into_iter().take(limit);
                Value::Array(
                    kept.map(|element| truncate_value(element, elements, depth + 1)).collect(),
                )
            }
            Value::Object(map) => Value::Object(
                map.into_iter()
                    .map(|(key, element)| (key, truncate_value(element, elements, depth + 1)))
                    .collect(),
            ),
            leaf @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => leaf,
        }
    }

    proptest! {
        #[test]
        fn truncating_the_text_equals_truncating_the_value(
            value in any_json(),
            elements in 1_usize..4,
            chunk in 1_usize..9,
            is_pretty in any::<bool>(),
        ) {
            let text = if is_pretty {
                serde_json::to_string_pretty(&value).unwrap()
            } else {
                value.to_string()
            };
            let kept: Value = serde_json::from_str(&truncate_text(&text, elements, chunk)).unwrap();
            prop_assert_eq!(kept, truncate_value(value, elements, 1));
        }
    }
}
