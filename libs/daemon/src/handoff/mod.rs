//! Passing a peer's connection from the server to the replica agent.
//!
//! Over the stream socket `handoff.sock`, one connection per handoff: the
//! server sends one framed message whose first byte carries the descriptor
//! (SCM_RIGHTS), the agent answers with one. From the moment the server starts
//! sending it neither reads nor writes the peer's socket; if the agent accepts
//! it closes its copy, if not, or if no answer comes, it closes the
//! connection: the peer will come again.
//!
//! Frame: magic `RRHO`, version 1, kind (1 handoff, 2 reply), two zero bytes,
//! body length (u32, little endian, at most 1 MiB), body. See [`codec`].

mod codec;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use codec::{FRAME_HEAD_BYTES, Kind};
pub use codec::{Handoff, HandoffReply, PeerRequest};

/// Largest body, in bytes; what a peer sent behind its PSYNC must fit in.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Why a handoff failed.
#[derive(Debug, thiserror::Error)]
pub enum HandoffError {
    /// The agent isn't there: hand over later.
    #[error("connect to the replica agent: {0}")]
    Unreachable(io::Error),
    #[error("no answer from the replica agent in {0:?}")]
    Timeout(Duration),
    #[error("handoff connection: {0}")]
    Io(#[from] io::Error),
    #[error("malformed handoff: {0}")]
    Malformed(&'static str),
    #[error("handoff of {0} bytes exceeds {BODY_BYTES_MAX}")]
    TooLarge(usize),
    #[error("the message came without a descriptor")]
    NoDescriptor,
}

/// Server's side: connects to the agent, passes `peer` and waits for its
/// answer, all within `deadline`. Not cancel-safe: when dropped, the agent may
/// or may not have the connection, so the caller closes it.
pub async fn hand_over(
    socket: &Path,
    handoff: &Handoff,
    peer: BorrowedFd<'_>,
    deadline: Duration,
) -> Result<HandoffReply, HandoffError> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket)
            .await
            .map_err(HandoffError::Unreachable)?;
        send(&mut stream, handoff, peer).await?;
        receive_reply(&mut stream).await
    };
    tokio::time::timeout(deadline, exchange)
        .await
        .unwrap_or(Err(HandoffError::Timeout(deadline)))
}

/// Sends the message and the descriptor.
pub async fn send(
    stream: &mut UnixStream,
    handoff: &Handoff,
    peer: BorrowedFd<'_>,
) -> Result<(), HandoffError> {
    let frame = codec::frame(Kind::Handoff, &handoff.encode())?;
    let mut sent = stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let descriptors = [peer];
            if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(io::Error::other("no room for the descriptor"));
            }
            let data = [IoSlice::new(&frame)];
            Ok(sendmsg(
                stream.as_fd(),
                &data,
                &mut control,
                SendFlags::NOSIGNAL,
            )?)
        })
        .await?;
    // The descriptor went with the first byte; the rest is plain data.
    while let Some(rest) = frame.get(sent..).filter(|rest| !rest.is_empty()) {
        sent += stream.write(rest).await?;
    }
    Ok(())
}

/// Agent's side: the message and the descriptor of the next handoff on an
/// accepted connection. Callers bound it with a timeout.
pub async fn receive(stream: &mut UnixStream) -> Result<(Handoff, OwnedFd), HandoffError> {
    let mut head = [0_u8; FRAME_HEAD_BYTES];
    let (count, descriptor) = stream
        .async_io(Interest::READABLE, || {
            receive_head(stream.as_fd(), &mut head)
        })
        .await?;
    if count == 0 {
        return Err(HandoffError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    if let Some(rest) = head.get_mut(count..) {
        stream.read_exact(rest).await?;
    }
    let body = receive_body(stream, &head, Kind::Handoff).await?;
    let handoff = Handoff::decode(&body)?;
    Ok((handoff, descriptor.ok_or(HandoffError::NoDescriptor)?))
}

/// Agent's answer.
pub async fn answer(stream: &mut UnixStream, reply: &HandoffReply) -> Result<(), HandoffError> {
    let frame = codec::frame(Kind::Reply, &reply.encode())?;
    stream.write_all(&frame).await?;
    Ok(())
}

async fn receive_reply(stream: &mut UnixStream) -> Result<HandoffReply, HandoffError> {
    let mut head = [0_u8; FRAME_HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    let body = receive_body(stream, &head, Kind::Reply).await?;
    HandoffReply::decode(&body)
}

async fn receive_body(
    stream: &mut UnixStream,
    head: &[u8; FRAME_HEAD_BYTES],
    kind: Kind,
) -> Result<Vec<u8>, HandoffError> {
    let mut body = vec![0; codec::body_length(head, kind)?];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// Up to a whole head, and the descriptor that came with it. Superfluous
/// descriptors are closed by being dropped.
fn receive_head(stream: BorrowedFd<'_>, head: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut data = [IoSliceMut::new(head)];
    let received = recvmsg(stream, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptor = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            for received in descriptors {
                descriptor.get_or_insert(received);
            }
        }
    }
    Ok((received.bytes, descriptor))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::codec::tests::sample;
    use super::*;
    use crate::uds::PrivateListener;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_socket_arrives_with_its_unread_bytes_and_still_works() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("handoff.sock");
        let agent = PrivateListener::bind(&path).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        peer.write_all(b"REPLCONF ACK 5\r\n").unwrap();

        // Larger than a socket buffer: the rest follows as plain data.
        let handoff = Handoff {
            unread: vec![7; 700_000],
            ..sample()
        };
        let sent = handoff.clone();
        let server = tokio::spawn(async move {
            hand_over(&path, &sent, accepted.as_fd(), LONG).await
            // The server's copy closes here; the agent's lives on.
        });
        let mut stream = agent.accept().await;
        let (received, descriptor) = receive(&mut stream).await.unwrap();
        answer(&mut stream, &HandoffReply::Accepted).await.unwrap();
        assert_eq!(server.await.unwrap().unwrap(), HandoffReply::Accepted);
        assert_eq!(received, handoff);

        let mut taken = TcpStream::from(descriptor);
        let mut bytes = [0; 16];
        taken.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"REPLCONF ACK 5\r\n");
        taken.write_all(b"+OK\r\n").unwrap();
        let mut reply = [0; 5];
        peer.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"+OK\r\n");
    }

    #[tokio::test]
    async fn a_refusal_and_its_reason_come_back() {
        let (mut server, mut agent) = UnixStream::pair().unwrap();
        let (peer, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        send(&mut server, &sample(), peer.as_fd()).await.unwrap();
        let _taken = receive(&mut agent).await.unwrap();
        let refusal = HandoffReply::Refused("stopping".into());
        answer(&mut agent, &refusal).await.unwrap();
        assert_eq!(receive_reply(&mut server).await.unwrap(), refusal);
    }

    #[tokio::test]
    async fn a_message_without_a_descriptor_is_refused() {
        let (mut server, mut agent) = UnixStream::pair().unwrap();
        let frame = codec::frame(Kind::Handoff, &sample().encode()).unwrap();
        server.write_all(&frame).await.unwrap();
        assert!(matches!(
            receive(&mut agent).await,
            Err(HandoffError::NoDescriptor)
        ));
    }

    #[tokio::test]
    async fn an_agent_that_is_absent_or_hangs_up_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("handoff.sock");
        let (peer, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let absent = hand_over(&path, &sample(), peer.as_fd(), LONG).await;
        assert!(matches!(absent, Err(HandoffError::Unreachable(_))));
        let agent = PrivateListener::bind(&path).unwrap();
        let hung = hand_over(&path, &sample(), peer.as_fd(), Duration::from_millis(50)).await;
        assert!(matches!(hung, Err(HandoffError::Timeout(_))));
        drop(agent);
        let (mut server, agent) = UnixStream::pair().unwrap();
        drop(agent);
        assert!(send(&mut server, &sample(), peer.as_fd()).await.is_err());
    }
}
