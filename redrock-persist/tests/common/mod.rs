//! What the tests of this crate share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "each test uses a part"
)]

pub mod dataset;
pub mod redis;
pub mod server;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redrock_daemon::tasks::Tasks;
use redrock_log::epoch::begin_run;
use redrock_log::fs::{Fs, RealFs};
use redrock_log::manifest::{self, Manifest, Names};
use redrock_persist::session::{Session, SessionConfig};
use redrock_proto::client::{ServerClient, Timeouts};
use tokio_util::sync::CancellationToken;

use server::{FakeServer, run_ref};

/// The append-only directory.
pub const DIR: &str = "appendonlydir";

/// A server that has started with the log on: one segment, one manifest.
pub fn with_log(fs: &dyn Fs, data_dir: &Path, fake: &FakeServer) {
    let directory = data_dir.join(DIR);
    fs.create_dir(&directory).unwrap();
    fs.sync_dir(data_dir).unwrap();
    let names = Names::default();
    assert!(fake.begin_log(1, &directory.join(names.incr(1))));
    let manifest = Manifest::default().with_incr(&names, 1, None).unwrap();
    manifest::store(fs, &directory, &names, &manifest).unwrap();
}

pub fn real_with_log() -> World {
    real_world(|folder, fake| with_log(&RealFs, folder, fake))
}

pub fn manifest_of(fs: &dyn Fs, data_dir: &Path) -> Manifest {
    manifest::load(fs, &data_dir.join(DIR), &Names::default())
        .unwrap()
        .unwrap_or_default()
}

/// A fake server and a session that works for it.
pub struct World {
    pub folder: tempfile::TempDir,
    pub fake: FakeServer,
    pub session: Arc<Session>,
    pub stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Over real files in a new folder; `prepare` may change the fake before the session begins.
pub fn real_world(prepare: impl FnOnce(&Path, &FakeServer)) -> World {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    world(folder, Arc::new(RealFs), &path, prepare)
}

/// Over any file system; sockets are in `folder`.
pub fn world(
    folder: tempfile::TempDir,
    fs: Arc<dyn Fs>,
    data_dir: &Path,
    prepare: impl FnOnce(&Path, &FakeServer),
) -> World {
    let mut run_id = [0; 40];
    run_id.copy_from_slice(run_ref(1).run_id.as_str().as_bytes());
    let epoch = begin_run(fs.as_ref(), data_dir, run_id).unwrap();
    let run = run_ref(epoch.number);
    let fake = FakeServer::new(Arc::clone(&fs), data_dir, run);
    prepare(data_dir, &fake);
    let stop = CancellationToken::new();
    let socket_dir = folder.path().join("run");
    fake.serve(&socket_dir, stop.clone());
    let timeouts = Timeouts {
        request: Duration::from_secs(60),
        ..Timeouts::default()
    };
    let session = Session::begin(SessionConfig {
        fs,
        data_dir: data_dir.to_owned(),
        server: ServerClient::in_dir(&socket_dir, timeouts),
        run,
        tasks: Tasks::new(),
        stop: stop.clone(),
    });
    World {
        folder,
        fake,
        session,
        stop,
    }
}
