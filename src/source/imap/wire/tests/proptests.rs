//! Properties of the reader: any bytes, in any chunks.

use proptest::prelude::*;

use super::{WireBody, data, list, read_chunks};
use crate::source::imap::wire::value::WireValue;
use crate::source::imap::wire::{Command, Response};

/// Pieces that the grammar knows.
const PIECES: &[&str] = &[
    "* ",
    "A1 OK ",
    "1 FETCH (",
    "(",
    ")",
    "\"",
    "\\",
    " ",
    "\r\n",
    "\n",
    "{3}\r\n",
    "{0}\r\n",
    "~{2+}\r\n",
    "{9999999999}\r\n",
    "BODY[",
    "BODY[] ",
    "]",
    "UID 7 ",
    "NIL",
    "+ ",
    "* LIST ",
    "* LIST () \"\\\" ",
];

fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => prop::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => "[ -~]{0,8}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn any_value() -> impl Strategy<Value = WireValue> {
    let leaf = prop_oneof![
        Just(WireValue::Nil),
        "[A-Za-z0-9$\\\\_.+:*%-]{1,8}"
            .prop_filter("NIL is no word", |word| !word.eq_ignore_ascii_case("NIL"))
            .prop_map(WireValue::Atom),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(WireValue::Text),
        "[ -~]{0,12}".prop_map(|text| WireValue::Text(text.into_bytes())),
    ];
    leaf.prop_recursive(5, 30, 5, |inner| {
        prop::collection::vec(inner, 0..5).prop_map(WireValue::List)
    })
}

/// Appends a value as a server writes it.
fn print(value: &WireValue, uses_quotes: bool, wire: &mut Vec<u8>) {
    match value {
        WireValue::Nil => wire.extend_from_slice(b"NIL"),
        WireValue::Atom(word) => wire.extend_from_slice(word.as_bytes()),
        WireValue::Text(bytes) if uses_quotes && !bytes.contains(&b'\n') => {
            wire.push(b'"');
            for byte in bytes {
                if matches!(byte, b'"' | b'\\') {
                    wire.push(b'\\');
                }
                wire.push(*byte);
            }
            wire.push(b'"');
        }
        WireValue::Text(bytes) => {
            wire.extend_from_slice(format!("{{{}}}\r\n", bytes.len()).as_bytes());
            wire.extend_from_slice(bytes);
        }
        WireValue::Streamed(_) => unreachable!("bodies are printed apart"),
        WireValue::List(values) => {
            wire.push(b'(');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    wire.push(b' ');
                }
                print(value, uses_quotes, wire);
            }
            wire.push(b')');
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_alike_in_any_chunks(stream in any_stream(), chunk in 1_usize..30) {
        let whole = read_chunks(&stream, usize::MAX);
        let parts = read_chunks(&stream, chunk);

        prop_assert!(whole.responses.len() <= stream.len());
        prop_assert_eq!(whole.responses, parts.responses);
        prop_assert_eq!(whole.bodies, parts.bodies);
        prop_assert_eq!(whole.error.to_string(), parts.error.to_string());
    }

    #[test]
    fn printed_values_are_read_back(
        value in any_value(),
        uses_quotes in any::<bool>(),
        chunk in 1_usize..30,
    ) {
        let mut wire = b"* X ".to_vec();
        print(&value, uses_quotes, &mut wire);
        wire.extend_from_slice(b"\r\n");

        prop_assert_eq!(read_chunks(&wire, chunk).responses, [data(None, "X", [value])]);
    }

    #[test]
    fn delimiters_of_folders_are_read_back(
        delimiter in "[ -~]",
        is_escaped in any::<bool>(),
        name in prop_oneof!["[ -~]{0,12}", r#"["\\ a]{0,4}"#],
    ) {
        let text = |text: &str| WireValue::Text(text.as_bytes().to_vec());
        let delimiter = if is_escaped { delimiter.as_str() } else { "\\" };
        let values = [list([]), text(delimiter), text(&name)];
        let mut wire = b"* LIST () ".to_vec();
        if is_escaped {
            print(&values[1], true, &mut wire);
        } else {
            wire.extend_from_slice(br#""\""#);
        }
        wire.push(b' ');
        print(&values[2], true, &mut wire);
        wire.extend_from_slice(b"\r\n");

        prop_assert_eq!(read_chunks(&wire, 7).responses, [data(None, "LIST", values)]);
    }

    #[test]
    fn bodies_are_read_back(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..5),
        chunk in 1_usize..300,
    ) {
        let mut wire = Vec::new();
        for body in &bodies {
            let announcement = format!("* 3 FETCH (BODY[] {{{}}}\r\n", body.len());
            wire.extend_from_slice(announcement.as_bytes());
            wire.extend_from_slice(body);
            wire.extend_from_slice(b" UID 7)\r\n");
        }

        let transcript = read_chunks(&wire, chunk);

        let name = WireValue::Atom("BODY[]".to_owned());
        let lengths = bodies.iter().map(|body| u64::try_from(body.len()).unwrap());
        let responses: Vec<Response> = lengths
            .map(|length| {
                let [uid, number] = ["UID", "7"].map(|word| WireValue::Atom(word.to_owned()));
                let values = [name.clone(), WireValue::Streamed(length), uid, number];
                data(Some(3), "FETCH", [list(values)])
            })
            .collect();
        prop_assert_eq!(transcript.responses, responses);
        let received: Vec<Vec<u8>> =
            transcript.bodies.iter().map(|body| body.bytes.clone()).collect();
        prop_assert_eq!(received, bodies);
        prop_assert!(transcript.bodies.iter().all(|body: &WireBody| body.is_ended));
    }

    /// A server reads an argument as a client reads a value, so the same parser checks both.
    #[test]
    fn arguments_of_commands_are_read_back(
        argument in prop_oneof![any::<String>(), "[ -~]{0,20}", "[a-zN]{0,4}"],
    ) {
        let command = Command::new("* X").astring(&argument);
        let mut wire = command.parts().collect::<Vec<_>>().concat();
        wire.extend_from_slice(b"\r\n");

        let responses = read_chunks(&wire, 7).responses;

        let [Response::Data { values, .. }] = responses.as_slice() else {
            return Err(TestCaseError::fail(format!("{responses:?}")));
        };
        let bytes: Vec<_> = values.iter().map(WireValue::as_bytes).collect();
        prop_assert_eq!(bytes, [Some(argument.as_bytes())]);
    }
}
