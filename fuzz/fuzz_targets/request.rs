//! Requests of clients: no panic, progress with each request, and the same in two pieces.
#![no_main]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "the parser's file is compiled into this program, without its users"
)]

use libfuzzer_sys::fuzz_target;

#[path = "../../redrock-server/src/net/parser/mod.rs"]
mod parser;

use parser::{Parser, RequestLimits, Step};

const LIMITS: RequestLimits = RequestLimits {
    bulk_bytes_max: 512 << 20,
    request_bytes_max: 1 << 30,
    authenticated: true,
};

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, mut rest) = input;
    loop {
        let mut parser = Parser::default();
        let step = parser.next(rest, LIMITS);
        let mut argv: Vec<&[u8]> = Vec::new();
        parser.arguments(rest, &mut argv);
        let mut in_pieces = Parser::default();
        let first = rest.get(..usize::from(cut)).unwrap_or(rest);
        match in_pieces.next(first, LIMITS) {
            Step::Incomplete { needed } => {
                assert!(needed > first.len());
                assert_eq!(in_pieces.next(rest, LIMITS), step);
            }
            early => assert_eq!(early, step),
        }
        let consumed = match step {
            Step::Command { consumed } => {
                assert!(!argv.is_empty());
                consumed
            }
            Step::Empty { consumed } => consumed,
            Step::Incomplete { .. } | Step::TooLarge { .. } | Step::Error(_) => return,
        };
        assert!(consumed > 0 && consumed <= rest.len());
        rest = &rest[consumed..];
    }
});
