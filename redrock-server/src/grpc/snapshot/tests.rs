//! What a cut says of its place in the stream.

use super::*;
use crate::command::effect::Effect;
use crate::command::testing::new_server;
use redrock_proto::model::RunRef;

fn service(folder: &Path) -> SnapshotService {
    SnapshotService::new(Shared {
        server: Arc::new(new_server()),
        run: RunRef::named((&"a".repeat(40), 1)).unwrap(),
        data_dir: folder.to_owned(),
        stop: tokio_util::sync::CancellationToken::new(),
    })
}

impl SnapshotService {
    async fn cut(&self, purpose: Purpose, rotate_to_segment: Option<u64>) -> Begin {
        let request = TakeRequest {
            purpose,
            rotate_to_segment,
            frame_bytes_max: 4096,
        };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let ring = Arc::new(Ring::new(1 << 20, 4096));
        let keyspace = self.shared.server.keyspace_when_idle().await;
        let (begin, _) = self.begin((id, &request), &ring, keyspace).unwrap();
        drop(self.shared.server.keyspace.lock().end_snapshot());
        begin
    }

    fn set(&self) {
        let _keyspace = self.shared.server.keyspace.lock();
        let mut effect = Effect::default();
        effect.replace(0, &[b"SET", b"k", b"v"]);
        self.shared.server.log.append_effect(&mut effect);
    }
}

#[tokio::test]
async fn what_is_not_counted_any_more_stands_under_another_id() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let server = service.shared.server.clone();
    let path = folder.path().join("appendonly.aof.1.incr.aof");
    server.log.offer(1, path, LogKind::Replication);
    let begun = service.cut(Purpose::FullSync, Some(1)).await;
    service.set();
    // A replica has all up to here.
    let counted = service.cut(Purpose::BackgroundSave, None).await;
    assert_eq!(counted.replid, begun.replid);
    assert!(counted.log_offset > begun.log_offset);
    server.log.disable();
    service.set();
    let uncounted = service.cut(Purpose::BackgroundSave, None).await;
    assert_eq!(uncounted.log_offset, counted.log_offset);
    assert_ne!(uncounted.replid, counted.replid);
    let shown = server.state.replication.lock().replid.clone();
    assert_eq!(shown, uncounted.replid.to_string());
    // Once: nothing was promised since.
    let later = service.cut(Purpose::BackgroundSave, None).await;
    assert_eq!(later.replid, uncounted.replid);
}
