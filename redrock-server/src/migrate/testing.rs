//! What tests of a job's parts run on.

use super::Job;
use crate::command::effect::Effect;
use crate::command::testing::new_server;
use crate::config::OptionSet;
use crate::keyspace::db::Db;
use crate::keyspace::hot::entry::NewValue;
use crate::net::client::Client;
use crate::notify::Class;
use crate::pubsub::Kind;
use crate::server::Server;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A server with the key `k`, which expires at that time, and a job for it.
pub(super) fn with_job(expire: Option<i64>) -> (Arc<Server>, Job) {
    let server = Arc::new(new_server());
    let mut keyspace = server.keyspace.lock();
    let mut effect = Effect::default();
    let mut db = Db::new(&mut keyspace, &*server, &mut effect, 0, 0);
    db.restore(b"k", NewValue::Int(1), expire)
        .expect("nothing is cold");
    drop(keyspace);
    let job = Job {
        host: String::new(),
        port: 1,
        database: 0,
        timeout: Duration::from_secs(1),
        copy: false,
        replace: false,
        login: None,
        source: 0,
        keys: vec![b"k".to_vec()],
        feed: server.state.feed.load(Ordering::Acquire),
    };
    (server, job)
}

/// Somebody who listens to an event of keys, `letters` being its class.
pub(super) fn listener(server: &Server, letters: &str, event: &str) -> Client {
    let mut config = (*server.config()).clone();
    config.observation.events = Class::parse_mask(letters).expect("letters");
    server.set_config(config, &OptionSet::default());
    let mut listener = Client::new(Arc::default(), String::new(), String::new(), 0);
    let channel = format!("__keyevent@0__:{event}");
    let pubsub = &server.pubsub;
    pubsub.subscribe(Kind::Channel, channel.as_bytes(), &mut listener);
    listener
}
