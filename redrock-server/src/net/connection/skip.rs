//! Passing over a request that is refused for its size, without keeping it.

/// Longest header of an argument (`$` and digits).
const HEADER_BYTES_MAX: usize = 32;

/// How much of a refused request is still to come.
#[derive(Debug)]
pub(super) struct Skip {
    /// Bytes left of the argument under way, line end included.
    body_bytes: usize,
    /// Arguments after it.
    arguments: usize,
    /// The beginning of the next argument's header.
    header: Vec<u8>,
}

/// What became of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    /// All were passed over, and more are to come.
    More,
    /// The request ended after so many.
    End(usize),
    /// What came is no request.
    Malformed,
}

impl Skip {
    pub(super) fn new(body_bytes: usize, arguments: usize) -> Self {
        Self {
            body_bytes,
            arguments,
            header: Vec::new(),
        }
    }

    /// Passes over what comes next.
    pub(super) fn pass(&mut self, data: &[u8]) -> Skipped {
        let mut at = 0;
        loop {
            let body = self.body_bytes.min(data.len() - at);
            self.body_bytes -= body;
            at += body;
            if self.body_bytes > 0 {
                return Skipped::More;
            }
            if self.arguments == 0 {
                return Skipped::End(at);
            }
            let Some(&byte) = data.get(at) else {
                return Skipped::More;
            };
            at += 1;
            self.header.push(byte);
            if byte == b'\n' {
                let Some(length) = argument_bytes(&self.header) else {
                    return Skipped::Malformed;
                };
                self.header.clear();
                self.body_bytes = length;
                self.arguments -= 1;
            } else if self.header.len() > HEADER_BYTES_MAX {
                return Skipped::Malformed;
            }
        }
    }
}

/// The length of an argument with its line end, out of its header.
fn argument_bytes(header: &[u8]) -> Option<usize> {
    let digits = header.strip_prefix(b"$")?.strip_suffix(b"\r\n")?;
    let length = redrock_rdb::number::parse_i64(digits)?;
    usize::try_from(length).ok()?.checked_add(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_request_is_found_however_it_is_cut() {
        let rest = b"aaaa\r\n$3\r\nxyz\r\n$0\r\n\r\n*1\r\n";
        for cut in 0..rest.len() - 4 {
            let mut skip = Skip::new(6, 2);
            let (first, second) = rest.split_at(cut);
            assert_eq!(skip.pass(first), Skipped::More, "{cut}");
            assert_eq!(
                skip.pass(second),
                Skipped::End(rest.len() - 4 - cut),
                "{cut}"
            );
        }
        assert_eq!(Skip::new(0, 1).pass(b"*1\r\n"), Skipped::Malformed);
        assert_eq!(Skip::new(0, 1).pass(b"$-1\r\n"), Skipped::Malformed);
        assert_eq!(Skip::new(0, 1).pass(&[b'$'; 40]), Skipped::Malformed);
    }
}
