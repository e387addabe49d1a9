//! Takes, with what may go wrong with them.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures::Stream;
use redrock_proto::model::LogKind;
use redrock_proto::model::record::{encode_header, encode_record};
use redrock_proto::v1::snapshot_server::Snapshot;
use redrock_proto::{RpcError, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::super::dataset::{Record, generation};
use super::{FakeServer, Fault, State};

impl FakeServer {
    fn begin_frame(&self, state: &State, rotated: bool) -> v1::Begin {
        let mut counts: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for record in state.hot.iter().chain(&state.cold) {
            let count = counts.entry(record.database).or_default();
            count.0 += 1;
            count.1 += u64::from(record.expires.is_some());
        }
        let extra = u64::from(state.fault == Fault::WrongCount);
        v1::Begin {
            snapshot_id: state.takes,
            cut_unix_ms: 5,
            log_offset: state.log.written_offset,
            replid: state.log.replid.to_string(),
            stream_db: 0,
            rotated,
            segment_seq: state.log.segment.as_ref().map_or(0, |segment| segment.seq),
            databases: counts
                .into_iter()
                .map(|(index, (keys, expires))| v1::Database {
                    index,
                    generation: generation(index),
                    keys: keys + extra,
                    expires,
                })
                .collect(),
            functions: Vec::new(),
            aux: Vec::new(),
            used_memory_bytes: 77,
            append_only: state.log.kind == LogKind::AppendOnly,
        }
    }

    fn frames(&self, state: &State, rotated: bool) -> Vec<v1::Frame> {
        use v1::frame::Frame;
        let begin = self.begin_frame(state, rotated);
        let databases = begin.databases.clone();
        let mut frames = vec![Frame::Begin(begin)];
        if let Some(path) = &state.checkpoint {
            frames.push(Frame::CheckpointReady(v1::CheckpointReady {
                path: path.to_string_lossy().into_owned(),
                files: 1,
                bytes: 1,
                lease_ms: 800,
            }));
        }
        let mut sent: BTreeMap<u32, u64> = BTreeMap::new();
        for record in &state.hot {
            *sent.entry(record.database).or_default() += 1;
            push_record(&mut frames, record);
        }
        frames.push(Frame::DirtyEnd(v1::DirtyEnd {
            records: state.hot.len() as u64,
            records_by_database: databases
                .iter()
                .map(|database| sent.get(&database.index).copied().unwrap_or(0))
                .collect(),
        }));
        frames.push(Frame::End(v1::End::default()));
        frames
            .into_iter()
            .map(|frame| v1::Frame { frame: Some(frame) })
            .collect()
    }
}

/// Large values in pieces, the others alone in a frame.
fn push_record(frames: &mut Vec<v1::frame::Frame>, record: &Record) {
    use v1::frame::Frame;
    let mut packed = Vec::new();
    if record.payload.len() <= 200_000 {
        encode_record(&mut packed, &record.header(), &record.payload);
        frames.push(Frame::Records(v1::Records {
            packed: packed.into(),
            count: 1,
        }));
        return;
    }
    encode_header(&mut packed, &record.header(), 0);
    let pieces: Vec<&[u8]> = record.payload.chunks(70_001).collect();
    for (index, piece) in pieces.iter().enumerate() {
        frames.push(Frame::ValueChunk(v1::ValueChunk {
            header: if index == 0 {
                packed.clone().into()
            } else {
                Vec::new().into()
            },
            payload_position: index as u64 * 70_001,
            payload: piece.to_vec().into(),
            last: index + 1 == pieces.len(),
        }));
    }
}

type Frames = Pin<Box<dyn Stream<Item = Result<v1::Frame, Status>> + Send>>;

#[tonic::async_trait]
impl Snapshot for FakeServer {
    type TakeStream = Frames;

    async fn take(&self, request: Request<v1::TakeRequest>) -> Result<Response<Frames>, Status> {
        let request = request.into_inner();
        self.run.check(request.run)?;
        let fault = self.state.lock().fault;
        match fault {
            Fault::Refuse => return Err(RpcError::busy("another take runs").into()),
            Fault::Silent => std::future::pending::<()>().await,
            _ => {}
        }
        let mut frames = {
            let mut state = self.state.lock();
            state.takes += 1;
            let mut rotated = false;
            if let Some(seq) = request.rotate_to_segment {
                let offered = state.offered.take();
                let Some((_, path)) = offered.filter(|(offered, _)| *offered == seq) else {
                    return Err(RpcError::not_found("not offered").into());
                };
                if !self.switch(&mut state, seq, &self.data_dir.join(path)) {
                    return Err(Status::internal("the switch failed"));
                }
                rotated = true;
            }
            let frames = self.frames(&state, rotated);
            if rotated {
                // The stream goes on at once: what is acknowledged here must survive.
                let key = format!("after-cut-{}", state.takes);
                self.append(&mut state, &key);
            }
            self.log_states.send_replace(state.log.clone());
            frames
        };
        if fault == Fault::FailAfterCut {
            frames.truncate(2);
            let error = RpcError::internal("a cold value is damaged").to_detail();
            frames.push(v1::Frame {
                frame: Some(v1::frame::Frame::Failed(v1::Failed { error: Some(error) })),
            });
        }
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            if fault == Fault::HangAfterCut {
                frames.truncate(1);
            }
            for frame in frames {
                if sender.send(Ok(frame)).await.is_err() {
                    return;
                }
            }
            if fault == Fault::HangAfterCut {
                sender.closed().await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn abort(&self, _: Request<v1::SnapshotRef>) -> Result<Response<v1::Empty>, Status> {
        Err(RpcError::not_found("over").into())
    }

    async fn report(&self, _: Request<v1::ReportRequest>) -> Result<Response<v1::Empty>, Status> {
        let mut state = self.state.lock();
        state.reports += 1;
        if state.fault == Fault::LoseLease {
            return Err(RpcError::not_found("the checkpoint is gone").into());
        }
        Ok(Response::new(v1::Empty {}))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        let mut state = self.state.lock();
        state.released.push(request.into_inner().succeeded);
        Ok(Response::new(v1::Empty {}))
    }
}
