//! The parser on chosen requests.

use super::*;

const LIMITS: RequestLimits = RequestLimits {
    bulk_bytes_max: 512 << 20,
    request_bytes_max: usize::MAX,
    authenticated: true,
};

fn parse_all(mut buffer: &[u8]) -> (Vec<Vec<Vec<u8>>>, Option<Vec<u8>>) {
    let (mut parser, mut out) = (Parser::default(), Vec::new());
    loop {
        let step = parser.next(buffer, LIMITS);
        let consumed = match step {
            Step::Command { consumed } => {
                let mut argv = Vec::new();
                parser.arguments(buffer, &mut argv);
                out.push(argv.iter().map(|a| a.to_vec()).collect());
                consumed
            }
            Step::Empty { consumed } => consumed,
            Step::Incomplete { .. } | Step::TooLarge { .. } => return (out, None),
            Step::Error(text) => return (out, Some(text)),
        };
        parser.reset();
        buffer = &buffer[consumed..];
    }
}

#[test]
fn reads_pipelined_multibulk_and_inline_commands() {
    let (commands, error) = parse_all(
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n\r\nPING\r\nset k \"a\\x41 b\"\r\n*0\r\n*1\r\n$4\r\nPI",
    );
    assert_eq!(error, None);
    assert_eq!(commands.len(), 3);
    assert_eq!(commands[0], [b"GET".to_vec(), b"a".to_vec()]);
    assert_eq!(
        commands[2],
        [b"set".to_vec(), b"k".to_vec(), b"aA b".to_vec()]
    );
}

#[test]
fn goes_on_after_any_split_of_the_input() {
    let input = b"*3\r\n$3\r\nSET\r\n$5\r\nhello\r\n$0\r\n\r\n";
    for cut in 0..input.len() {
        let mut parser = Parser::default();
        assert!(
            matches!(parser.next(&input[..cut], LIMITS), Step::Incomplete { .. }),
            "{cut}"
        );
        assert_eq!(
            parser.next(input, LIMITS),
            Step::Command {
                consumed: input.len()
            }
        );
        let mut argv = Vec::new();
        parser.arguments(input, &mut argv);
        assert_eq!(argv, [&b"SET"[..], b"hello", b""]);
    }
}

#[test]
fn a_request_beyond_the_limit_is_known_before_it_has_come() {
    let limits = RequestLimits {
        request_bytes_max: 100,
        ..LIMITS
    };
    let mut parser = Parser::default();
    let head = b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$50\r\n";
    let step = parser.next(head, limits);
    let (consumed, body_bytes, arguments) = (head.len(), 52, 1);
    assert_eq!(
        step,
        Step::TooLarge {
            consumed,
            body_bytes,
            arguments
        }
    );
    // The ranges of many small arguments count too.
    let mut many = b"*1000\r\n".to_vec();
    many.extend(b"$0\r\n\r\n".repeat(10));
    let step = Parser::default().next(&many, limits);
    assert!(matches!(step, Step::TooLarge { .. }), "{step:?}");
}

#[test]
fn names_protocol_errors_as_redis_does() {
    for (input, text) in [
        (&b"*a\r\n"[..], "Protocol error: invalid multibulk length"),
        (
            b"*3000000000\r\n",
            "Protocol error: invalid multibulk length",
        ),
        (b"*1\r\n:1\r\n", "Protocol error: expected '$', got ':'"),
        (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
        (
            b"*1\r\n$999999999999\r\n",
            "Protocol error: invalid bulk length",
        ),
        (
            b"get \"a\r\n",
            "Protocol error: unbalanced quotes in request",
        ),
    ] {
        assert_eq!(parse_all(input).1.as_deref(), Some(text.as_bytes()));
    }
}

#[test]
fn a_nul_hides_the_end_of_a_line_and_what_follows_is_not_run() {
    for input in [
        &b"PING\0\r\nPING\r\n"[..],
        b"\0PING\r\n",
        b"set a \"x\0y\"\r\n",
        b"*1\0\r\n$4\r\nPING\r\n",
        b"*1\r\n$\x004\r\nPING\r\n",
        b"*1\r\n\0\r\n",
    ] {
        assert_eq!(parse_all(input), (Vec::new(), None), "{input:?}");
        let long = [input, &[b'x'; LINE_BYTES_MAX]].concat();
        let text = parse_all(&long).1.unwrap();
        assert!(text.starts_with(b"Protocol error: too big "), "{input:?}");
    }
}
