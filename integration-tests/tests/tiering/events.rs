//! Keyspace events of one script: nothing of them can be sent before it ends.

use super::{ALONE, MB, start};
use redrock_integration_tests::memory::Sampler;
use redrock_integration_tests::resp::{Client, Reply};
use std::time::Duration;

#[test]
fn what_a_script_tells_its_listeners_stays_within_the_bound() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = [&ALONE[..], &["--busy-reply-threshold", "0"]].concat();
    let server = start(folder.path(), "128mb", &options)?;
    let mut client = server.client()?;
    client.ok("CONFIG SET notify-keyspace-events KEA")?;
    let mut listeners = Vec::new();
    for _ in 0..12 {
        let mut listener = server.client()?;
        listener.ok("PSUBSCRIBE *")?;
        listeners.push(listener);
    }
    let sampler = Sampler::start(server.pid());
    // Each would get 40 MB, more than its own limit; all of them three times the bound.
    client.set_reply_wait(Duration::from_secs(120))?;
    let script = "for i = 1, 200000 do redis.call('SET', 'key:' .. i, 'v') end";
    anyhow::ensure!(client.run(&["EVAL", script, "0"])? == Reply::Nil);
    let phase = sampler.phase("events");
    let limit = 128 * MB + 64 * MB;
    anyhow::ensure!(phase.peak_bytes <= limit, "{phase}");
    anyhow::ensure!(phase.largest_process_bytes() <= limit, "{phase}");
    // Who was closed for it can come again, and few events reach all.
    let mut listener: Client = server.client()?;
    listener.ok("PSUBSCRIBE __keyevent@0__:set")?;
    client.ok("SET a 1")?;
    let message = listener.receive()?.elements();
    assert_eq!(message.last().map(Reply::text).as_deref(), Some("a"));
    Ok(())
}
