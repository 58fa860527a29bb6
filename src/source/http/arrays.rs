//! Cuts long arrays out of a JSON text while it arrives, so that what a server sends beyond a limit is never held.

use bytes::BytesMut;

/// Arrays nested no deeper are kept whole: those around the answers to methods (RFC 8620 §3.4).
const FRAME_DEPTH: usize = 3;

/// Depth at which JSON is no longer followed; its reader refuses it there (`serde_json`'s recursion limit).
const DEPTH_MAX: usize = 128;

/// The part of an answer that is held in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Room {
    /// Elements of an array, at least one; those behind them are dropped.
    pub elements: usize,
    /// Bytes of all that is not dropped.
    pub bytes: u64,
}

/// Position in a JSON text of which chunks were read.
#[derive(Debug)]
pub(super) struct ArrayCutter {
    elements: usize,
    /// Open arrays with the number of their elements so far, and open objects.
    open: Vec<Level>,
    string: InString,
    /// Depth of the array whose other elements are dropped.
    dropping: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Level {
    Array { commas: usize },
    Object,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum InString {
    No,
    Yes,
    /// Behind a backslash.
    Escaped,
}

impl ArrayCutter {
    pub(super) fn new(room: Room) -> Self {
        Self { elements: room.elements, open: Vec::new(), string: InString::No, dropping: None }
    }

    /// Appends to `kept` what is kept of the next chunk. What is no JSON is kept for its reader to refuse.
    pub(super) fn keep(&mut self, chunk: &[u8], kept: &mut BytesMut) {
        let mut begin = self.dropping.is_none().then_some(0);
        for (at, byte) in chunk.iter().enumerate() {
            self.follow(*byte);
            match (begin, self.dropping) {
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

    fn follow(&mut self, byte: u8) {
        match (self.string, byte) {
            (InString::Escaped, _) | (InString::No, b'"') => self.string = InString::Yes,
            (InString::Yes, b'\\') => self.string = InString::Escaped,
            (InString::Yes, b'"') => self.string = InString::No,
            (InString::No, b'[') => self.enter(Level::Array { commas: 0 }),
            (InString::No, b'{') => self.enter(Level::Object),
            (InString::No, b']' | b'}') => {
                if self.dropping == Some(self.open.len()) {
                    self.dropping = None;
                }
                self.open.pop();
            }
            (InString::No, b',') => self.separate(),
            (InString::Yes | InString::No, _) => {}
        }
    }

    fn enter(&mut self, level: Level) {
        if self.open.len() < DEPTH_MAX {
            self.open.push(level);
        }
    }

    /// Another element follows.
    fn separate(&mut self) {
        let depth = self.open.len();
        if let (None, Some(Level::Array { commas })) = (self.dropping, self.open.last_mut()) {
            *commas += 1;
            if FRAME_DEPTH < depth && self.elements <= *commas {
                self.dropping = Some(depth);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn cut(text: &str, elements: usize, chunk: usize) -> String {
        let mut cutter = ArrayCutter::new(Room { elements, bytes: u64::MAX });
        let mut kept = BytesMut::new();
        text.as_bytes().chunks(chunk).for_each(|part| cutter.keep(part, &mut kept));
        String::from_utf8(kept.to_vec()).unwrap()
    }

    fn answer(ids: &Value) -> Value {
        json!({"methodResponses": [["Email/query", {"ids": ids, "total": 7}, "0"]], "sessionState": "s"})
    }

    #[test]
    fn what_follows_the_elements_of_a_long_array_is_dropped() {
        let text = answer(&json!(["a", "],\"[", {"b": [1, 2, 3]}, "d"])).to_string();

        let kept: Value = serde_json::from_str(&cut(&text, 2, 3)).unwrap();

        assert_eq!(kept, answer(&json!(["a", "],\"["])));
    }

    /// FAULTS 53.
    #[test]
    fn two_million_ids_are_held_as_five_hundred() {
        let mut cutter = ArrayCutter::new(Room { elements: 500, bytes: u64::MAX });
        let mut kept = BytesMut::new();
        cutter.keep(br#"{"methodResponses":[["Email/query",{"ids":["first""#, &mut kept);
        for id in 0..2_000_000 {
            cutter.keep(format!(r#","M{id:019}""#).as_bytes(), &mut kept);
        }
        cutter.keep(br#"],"total":2000001},"0"]]}"#, &mut kept);

        assert!(kept.len() < 12_000 && kept.capacity() < 64_000, "{}", kept.capacity());
        let kept: Value = serde_json::from_slice(&kept).unwrap();
        let answer = &kept["methodResponses"][0][1];
        assert_eq!(answer["ids"].as_array().unwrap().len(), 500);
        assert_eq!(answer["total"], 2_000_001);
    }

    #[test]
    fn a_text_of_brackets_takes_no_memory_of_its_own() {
        let mut cutter = ArrayCutter::new(Room { elements: 1, bytes: u64::MAX });

        cutter.keep(&[b'['; 100_000], &mut BytesMut::new());

        assert_eq!(cutter.open.len(), DEPTH_MAX);
    }

    /// Any JSON, with strings of what JSON is made of.
    fn values() -> impl Strategy<Value = Value> {
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

    fn truncated(value: Value, elements: usize, depth: usize) -> Value {
        match value {
            Value::Array(list) => {
                let most = if FRAME_DEPTH < depth { elements } else { usize::MAX };
                let kept = list.into_iter().take(most);
                Value::Array(kept.map(|one| truncated(one, elements, depth + 1)).collect())
            }
            Value::Object(map) => Value::Object(
                map.into_iter()
                    .map(|(key, one)| (key, truncated(one, elements, depth + 1)))
                    .collect(),
            ),
            leaf @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => leaf,
        }
    }

    proptest! {
        #[test]
        fn cutting_the_text_is_cutting_the_value(
            value in values(),
            elements in 1_usize..4,
            chunk in 1_usize..9,
            is_pretty in any::<bool>(),
        ) {
            let text = if is_pretty {
                serde_json::to_string_pretty(&value).unwrap()
            } else {
                value.to_string()
            };
            let kept: Value = serde_json::from_str(&cut(&text, elements, chunk)).unwrap();
            prop_assert_eq!(kept, truncated(value, elements, 1));
        }
    }
}
