//! Bytes of the handoff messages.
//!
//! Numbers are little endian; texts and byte strings have a u32 length before
//! them. Handoff body: run id, epoch u64, client id u64, flags u8 (1: TLS is
//! proxied), address, local address, user, listening port u16, announced
//! address, version, capabilities (u16 count, texts), request (1 SYNC; 2
//! PSYNC: replication id, offset i64, failover u8), unread bytes. Reply body:
//! 1 accepted; 2 refused and a text.

use super::{BODY_BYTES_MAX, HandoffError};

pub(super) const FRAME_HEAD_BYTES: usize = 12;
const MAGIC: &[u8; 4] = b"RRHO";
const VERSION: u8 = 1;
/// Longest text and most capabilities: REPLCONF comes from the network.
const TEXT_BYTES_MAX: usize = 1024;
const CAPABILITIES_MAX: usize = 64;

/// Which message a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Handoff = 1,
    Reply = 2,
}

/// What the peer asked for with its last command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerRequest {
    Sync,
    Psync {
        /// As it said: `?` or an id, not checked yet.
        replid: String,
        offset: i64,
        /// `PSYNC ... FAILOVER`.
        failover: bool,
    },
}

/// All that the server knows of a peer's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handoff {
    /// The server's run: an agent of another one refuses.
    pub run_id: String,
    pub epoch: u64,
    /// Under which CLIENT LIST and KILL know it.
    pub client_id: u64,
    /// The descriptor is one end of a socket pair, TLS ends in the server.
    pub tls_proxied: bool,
    /// `address:port` of the peer, and of our end.
    pub address: String,
    pub local_address: String,
    /// Authenticated as.
    pub user: String,
    /// REPLCONF listening-port; 0: not told.
    pub listening_port: u16,
    /// REPLCONF ip-address; empty: not told.
    pub announced_ip: String,
    /// REPLCONF version; empty: not told.
    pub version: String,
    /// REPLCONF capa, each at most 1 KiB, at most 64.
    pub capabilities: Vec<String>,
    pub request: PeerRequest,
    /// What was read from the peer behind the request.
    pub unread: Vec<u8>,
}

/// The agent's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandoffReply {
    /// The connection is the agent's now.
    Accepted,
    /// The server closes it and logs why.
    Refused(String),
}

impl Handoff {
    /// Texts beyond their limits make the receiver refuse it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.unread.len());
        put_bytes(&mut out, self.run_id.as_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.client_id.to_le_bytes());
        out.push(u8::from(self.tls_proxied));
        for text in [&self.address, &self.local_address, &self.user] {
            put_bytes(&mut out, text.as_bytes());
        }
        out.extend_from_slice(&self.listening_port.to_le_bytes());
        put_bytes(&mut out, self.announced_ip.as_bytes());
        put_bytes(&mut out, self.version.as_bytes());
        let count = u16::try_from(self.capabilities.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for capability in &self.capabilities {
            put_bytes(&mut out, capability.as_bytes());
        }
        match &self.request {
            PeerRequest::Sync => out.push(1),
            PeerRequest::Psync {
                replid,
                offset,
                failover,
            } => {
                out.push(2);
                put_bytes(&mut out, replid.as_bytes());
                out.extend_from_slice(&offset.to_le_bytes());
                out.push(u8::from(*failover));
            }
        }
        put_bytes(&mut out, &self.unread);
        out
    }

    pub fn decode(body: &[u8]) -> Result<Handoff, HandoffError> {
        let mut reader = Reader { rest: body };
        let handoff = Handoff {
            run_id: reader.text()?,
            epoch: u64::from_le_bytes(reader.array()?),
            client_id: u64::from_le_bytes(reader.array()?),
            tls_proxied: reader.boolean()?,
            address: reader.text()?,
            local_address: reader.text()?,
            user: reader.text()?,
            listening_port: u16::from_le_bytes(reader.array()?),
            announced_ip: reader.text()?,
            version: reader.text()?,
            capabilities: reader.capabilities()?,
            request: reader.request()?,
            unread: reader.bytes(BODY_BYTES_MAX)?.to_vec(),
        };
        reader.end()?;
        Ok(handoff)
    }
}

impl HandoffReply {
    /// A reason beyond 1 KiB is cut.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            HandoffReply::Accepted => vec![1],
            HandoffReply::Refused(reason) => {
                let mut out = vec![2];
                let end = (0..=reason.len().min(TEXT_BYTES_MAX))
                    .rev()
                    .find(|&at| reason.is_char_boundary(at));
                let cut = end.and_then(|end| reason.get(..end)).unwrap_or_default();
                put_bytes(&mut out, cut.as_bytes());
                out
            }
        }
    }

    pub fn decode(body: &[u8]) -> Result<HandoffReply, HandoffError> {
        let mut reader = Reader { rest: body };
        let reply = match reader.array()? {
            [1] => HandoffReply::Accepted,
            [2] => HandoffReply::Refused(reader.text()?),
            _ => return Err(HandoffError::Malformed("unknown reply")),
        };
        reader.end()?;
        Ok(reply)
    }
}

/// Head and body.
pub(super) fn frame(kind: Kind, body: &[u8]) -> Result<Vec<u8>, HandoffError> {
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= BODY_BYTES_MAX)
        .ok_or(HandoffError::TooLarge(body.len()))?;
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + body.len());
    frame.extend_from_slice(MAGIC);
    frame.extend_from_slice(&[VERSION, kind as u8, 0, 0]);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(body);
    Ok(frame)
}

/// Checks a head; the length of the body behind it.
pub(super) fn body_length(
    head: &[u8; FRAME_HEAD_BYTES],
    kind: Kind,
) -> Result<usize, HandoffError> {
    let mut reader = Reader { rest: head };
    if reader.array::<4>()? != *MAGIC {
        return Err(HandoffError::Malformed("wrong magic"));
    }
    if reader.array()? != [VERSION, kind as u8, 0, 0] {
        return Err(HandoffError::Malformed(
            "another version or kind of message",
        ));
    }
    let length = u32::from_le_bytes(reader.array()?) as usize;
    if length > BODY_BYTES_MAX {
        return Err(HandoffError::TooLarge(length));
    }
    Ok(length)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // A longer one can't pass `frame`'s limit, so the length always fits.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], HandoffError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(HandoffError::Malformed("ends early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HandoffError> {
        self.take(N)?
            .try_into()
            .map_err(|_| HandoffError::Malformed("ends early"))
    }

    fn boolean(&mut self) -> Result<bool, HandoffError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(HandoffError::Malformed("unknown flag")),
        }
    }

    fn bytes(&mut self, limit: usize) -> Result<&'a [u8], HandoffError> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        if length > limit {
            return Err(HandoffError::Malformed("a field is too long"));
        }
        self.take(length)
    }

    fn text(&mut self) -> Result<String, HandoffError> {
        let text = std::str::from_utf8(self.bytes(TEXT_BYTES_MAX)?);
        text.map(str::to_owned)
            .map_err(|_| HandoffError::Malformed("a text isn't UTF-8"))
    }

    fn capabilities(&mut self) -> Result<Vec<String>, HandoffError> {
        let count = usize::from(u16::from_le_bytes(self.array()?));
        if count > CAPABILITIES_MAX {
            return Err(HandoffError::Malformed("too many capabilities"));
        }
        (0..count).map(|_| self.text()).collect()
    }

    fn request(&mut self) -> Result<PeerRequest, HandoffError> {
        match self.array()? {
            [1] => Ok(PeerRequest::Sync),
            [2] => Ok(PeerRequest::Psync {
                replid: self.text()?,
                offset: i64::from_le_bytes(self.array()?),
                failover: self.boolean()?,
            }),
            _ => Err(HandoffError::Malformed("unknown request")),
        }
    }

    fn end(&self) -> Result<(), HandoffError> {
        match self.rest {
            [] => Ok(()),
            _ => Err(HandoffError::Malformed("bytes after the end")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn sample() -> Handoff {
        Handoff {
            run_id: "a".repeat(40),
            epoch: 3,
            client_id: 12,
            tls_proxied: false,
            address: "127.0.0.1:4000".into(),
            local_address: "127.0.0.1:6379".into(),
            user: "default".into(),
            listening_port: 6380,
            announced_ip: String::new(),
            version: "7.0.15".into(),
            capabilities: vec!["eof".into(), "psync2".into()],
            request: PeerRequest::Psync {
                replid: "?".into(),
                offset: -1,
                failover: false,
            },
            unread: b"*1\r\n$4\r\nPING\r\n".to_vec(),
        }
    }

    proptest! {
        #[test]
        fn handoffs_round_trip(
            text in "\\PC{0,60}",
            capabilities in proptest::collection::vec("[a-z0-9]{0,10}", 0..10),
            numbers: (u64, u64, u16, i64),
            flags: (bool, bool, bool),
            unread in proptest::collection::vec(any::<u8>(), 0..500),
        ) {
            let request = match flags.0 {
                true => PeerRequest::Sync,
                false => PeerRequest::Psync {
                    replid: text.clone(),
                    offset: numbers.3,
                    failover: flags.1,
                },
            };
            let handoff = Handoff {
                epoch: numbers.0,
                client_id: numbers.1,
                tls_proxied: flags.2,
                listening_port: numbers.2,
                announced_ip: text.clone(),
                user: text,
                capabilities,
                request,
                unread,
                ..sample()
            };
            let body = handoff.encode();
            prop_assert_eq!(Handoff::decode(&body).unwrap(), handoff);
            for cut in 0..body.len() {
                prop_assert!(Handoff::decode(&body[..cut]).is_err());
            }
        }

        #[test]
        fn no_bytes_make_the_decoders_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let _ = Handoff::decode(&bytes);
            let _ = HandoffReply::decode(&bytes);
        }
    }

    #[test]
    fn frames_of_other_kinds_versions_and_sizes_are_refused() {
        let head = |change: fn(&mut [u8])| {
            let mut frame = frame(Kind::Handoff, b"body").unwrap();
            change(&mut frame);
            let head = frame.first_chunk::<FRAME_HEAD_BYTES>().unwrap();
            body_length(head, Kind::Handoff)
        };
        assert_eq!(head(|_| ()).unwrap(), 4);
        assert!(head(|frame| frame[0] = b'X').is_err());
        assert!(head(|frame| frame[4] = 2).is_err());
        assert!(head(|frame| frame[5] = 2).is_err());
        assert!(head(|frame| frame[11] = 0xff).is_err());
        assert!(frame(Kind::Reply, &vec![0; BODY_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn long_reasons_are_cut() {
        let reply = HandoffReply::Refused("é".repeat(4000));
        let back = HandoffReply::decode(&reply.encode()).unwrap();
        assert_eq!(back, HandoffReply::Refused("é".repeat(512)));
    }
}
