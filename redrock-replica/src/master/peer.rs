//! What a replica sends after its PSYNC: acknowledgements, and newlines while
//! it loads. Neither gets an answer.

use anyhow::{Context as _, bail};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::registry::Replica;
use crate::context::unix_ms;
use crate::framing::Framer;

const BUFFER_BYTES: usize = 4096;

/// What one command of a replica means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Ack {
        offset: u64,
        fsynced: Option<u64>,
    },
    /// It is alive.
    Newline,
    Other,
}

/// Takes what the replica sends until the connection ends; never ends well.
pub(crate) async fn listen(
    mut reader: impl AsyncRead + Unpin,
    unread: &[u8],
    replica: &Replica,
) -> anyhow::Error {
    let mut framer = Framer::new(0);
    let mut listening = async || -> anyhow::Result<()> {
        take(&mut framer, unread, replica)?;
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            let count = reader.read(&mut buffer).await.context("read")?;
            if count == 0 {
                bail!("the replica closed the connection");
            }
            take(
                &mut framer,
                buffer.get(..count).unwrap_or_default(),
                replica,
            )?;
        }
    };
    match listening().await {
        Ok(()) => anyhow::anyhow!("the connection ended"),
        Err(error) => error,
    }
}

fn take(framer: &mut Framer, bytes: &[u8], replica: &Replica) -> anyhow::Result<()> {
    let messages = parse(framer, bytes)?;
    // Of many only the last state counts: one change of the figures.
    if messages.is_empty() {
        return Ok(());
    }
    replica.update(|figures| {
        for message in messages {
            match message {
                Message::Ack { offset, fsynced } => {
                    figures.acked_offset = figures.acked_offset.max(offset);
                    figures.fsynced_offset = figures.fsynced_offset.max(fsynced.unwrap_or(0));
                    figures.acked_unix_ms = unix_ms();
                }
                Message::Newline => figures.acked_unix_ms = unix_ms(),
                Message::Other => {}
            }
        }
    });
    Ok(())
}

fn parse(framer: &mut Framer, bytes: &[u8]) -> anyhow::Result<Vec<Message>> {
    let mut messages = vec![];
    framer.push(bytes, |command| {
        let number = |index| {
            let digits = std::str::from_utf8(command.arg(index)).ok();
            digits.and_then(|digits| digits.parse::<u64>().ok())
        };
        let is_ack = command.argc >= 3 && command.is(&[b"replconf", b"ack"]);
        messages.push(match (is_ack, number(2)) {
            _ if command.argc == 0 => Message::Newline,
            (true, Some(offset)) => Message::Ack {
                offset,
                fsynced: match command.arg(3).eq_ignore_ascii_case(b"fack") {
                    true => number(4),
                    false => None,
                },
            },
            _ => Message::Other,
        });
    })?;
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_and_newlines_are_told_apart() {
        let mut framer = Framer::new(0);
        let bytes = b"\n*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n42\r\n\
            *5\r\n$8\r\nreplconf\r\n$3\r\nack\r\n$2\r\n50\r\n$4\r\nFACK\r\n$2\r\n44\r\n\
            PING\r\n*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n-1\r\n";
        assert_eq!(
            parse(&mut framer, bytes).unwrap(),
            [
                Message::Newline,
                Message::Ack {
                    offset: 42,
                    fsynced: None
                },
                Message::Ack {
                    offset: 50,
                    fsynced: Some(44)
                },
                Message::Other,
                Message::Other,
            ]
        );
        assert!(parse(&mut framer, b"*1\r\n:5\r\n").is_err());
    }
}
