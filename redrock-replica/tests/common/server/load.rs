//! A loader that keeps what it is told to load.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redrock_proto::v1;
use tonic::{Request, Response, Status, Streaming};

use super::{BoxStream, LOAD_FAILS_AFTER, Reply, Service, id};

#[tonic::async_trait]
impl v1::load_server::Load for Service {
    type LoadRdbStream = BoxStream<v1::Progress>;
    async fn load_rdb(&self, request: Request<v1::LoadRdbRequest>) -> Reply<Self::LoadRdbStream> {
        let request = request.into_inner();
        self.check(request.run)?;
        let source = request.source.unwrap();
        let master = self.0.master.lock().unwrap().clone();
        assert_eq!(master, Some((source.master_host, source.master_port)));
        let from = self.0.dir.join(&request.path);
        assert_eq!(std::fs::metadata(&from).unwrap().len(), request.bytes);
        let mut stalled = self.0.stalled.subscribe();
        let fake = Arc::clone(&self.0);
        let failure = self.0.failing_loads.lock().unwrap().pop_front();
        let done = async move {
            if let Some(failure) = failure {
                tokio::time::sleep(LOAD_FAILS_AFTER).await;
                return Err(failure.into());
            }
            stalled.wait_for(|stalled| !stalled).await.unwrap();
            let number = fake.loaded.borrow().snapshots.len();
            let copy = fake.dir.join(format!("copy-{number}.rdb"));
            std::fs::copy(&from, &copy).unwrap();
            fake.loaded.send_modify(|loaded| {
                loaded.snapshots.push(copy);
                loaded.stream.clear();
                loaded.replid = source.replid.clone();
                loaded.applied = source.offset;
            });
            fake.show_replica();
            if fake.keeps_log.load(Ordering::Relaxed) {
                let copy = fake.loaded.borrow().snapshots.last().unwrap().clone();
                fake.begin_segment(&source.replid, Some(source.offset));
                fake.set_base(&copy, source.offset);
            }
            Ok(v1::Progress {
                phase: v1::Phase::Done.into(),
                outcome: Some(v1::Outcome::default()),
                ..v1::Progress::default()
            })
        };
        Ok(Response::new(Box::pin(futures::stream::once(done))))
    }
    type ApplyStreamStream = BoxStream<v1::Applied>;
    async fn apply_stream(
        &self,
        request: Request<Streaming<v1::ApplyRequest>>,
    ) -> Reply<Self::ApplyStreamStream> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.unwrap();
        let Some(v1::apply_request::Request::Begin(begin)) = first.request else {
            return Err(Status::invalid_argument("no begin"));
        };
        self.check(begin.run)?;
        let master = self.0.master.lock().unwrap().clone();
        if master != Some((begin.master_host, begin.master_port)) {
            return Err(Status::invalid_argument("not our master"));
        }
        if begin.start_offset != self.0.loaded.borrow().applied {
            return Err(Status::invalid_argument("not where we are"));
        }
        self.0.loaded.send_modify(|loaded| {
            loaded.replid = begin.replid;
            loaded.begins += 1;
        });
        let (sender, answers) = tokio::sync::mpsc::channel(1);
        let fake = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut stalled = fake.stalled.subscribe();
            while let Ok(Some(message)) = messages.message().await {
                let Some(v1::apply_request::Request::Spool(spool)) = message.request else {
                    panic!("begin twice");
                };
                stalled.wait_for(|stalled| !stalled).await.unwrap();
                let applied = fake.loaded.borrow().applied;
                assert!(applied >= spool.start_offset, "a gap in the spool");
                let mut bytes = vec![0; (spool.readable_end_offset - applied) as usize];
                let file = std::fs::File::open(fake.dir.join(&spool.path)).unwrap();
                file.read_exact_at(&mut bytes, applied - spool.start_offset)
                    .unwrap();
                fake.loaded.send_modify(|loaded| {
                    loaded.stream.extend_from_slice(&bytes);
                    loaded.applied = spool.readable_end_offset;
                });
                match fake.keeps_log.load(Ordering::Relaxed) {
                    true => fake.append(&bytes),
                    false => fake.show_replica(),
                }
                let answer = v1::Applied {
                    applied_offset: spool.readable_end_offset,
                    durable_offset: 0,
                };
                if sender.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        let answers = tokio_stream::wrappers::ReceiverStream::new(answers);
        Ok(Response::new(Box::pin(answers)))
    }
    async fn promote(&self, request: Request<v1::PromoteRequest>) -> Reply<v1::PromoteReply> {
        self.check(request.into_inner().run)?;
        *self.0.master.lock().unwrap() = None;
        let offset = self.0.loaded.borrow().applied;
        self.0.begin_segment(&id('d'), Some(offset));
        self.0
            .log
            .send_modify(|log| log.role = v1::Role::Master.into());
        Ok(Response::new(v1::PromoteReply {
            replid: id('d'),
            offset,
        }))
    }
    async fn demote(&self, request: Request<v1::DemoteRequest>) -> Reply<v1::DemoteReply> {
        let request = request.into_inner();
        self.check(request.run)?;
        *self.0.master.lock().unwrap() = Some((request.master_host, request.master_port));
        let log = self.0.log.borrow().clone();
        self.0.loaded.send_modify(|loaded| {
            loaded.replid = log.replid.clone();
            loaded.applied = log.written_offset;
        });
        self.0
            .log
            .send_modify(|log| log.role = v1::Role::Replica.into());
        if self.0.demotion_hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(v1::DemoteReply {
            replid: log.replid,
            offset: log.written_offset,
        }))
    }
    async fn link_state(&self, request: Request<v1::LinkStateRequest>) -> Reply<v1::Empty> {
        let request = request.into_inner();
        self.check(request.run.clone())?;
        self.0.link.send_replace(request);
        Ok(Response::new(v1::Empty {}))
    }
}
