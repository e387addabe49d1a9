//! Many clients, clients that do not read, and values larger than what is there.

use anyhow::ensure;
use redrock_integration_tests::job::{Job, alone, max_memory_mib};
use redrock_integration_tests::memory::MIB;
use redrock_integration_tests::resp::{Client, Reply, encode};
use redrock_integration_tests::scale::between;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

const APPEND_ONLY: &[&str] = &["--appendonly", "yes"];
const VALUE_BYTES: usize = 1000;

/// Thousands of connections need as many descriptors.
fn raise_open_files() -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

fn value(number: u64) -> Vec<u8> {
    let mut value = format!("{number}:").into_bytes();
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while value.len() < VALUE_BYTES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        value.extend_from_slice(&random.to_le_bytes());
    }
    value
}

#[test]
fn thousands_of_clients_stay_within_the_bound() -> anyhow::Result<()> {
    let _alone = alone();
    raise_open_files()?;
    let folder = tempfile::tempdir()?;
    let mut job = Job::start("clients", folder.path(), APPEND_ONLY)?;
    job.wait_companions()?;
    let port = job.server.port;
    let connect = |count: u64| (0..count).map(|_| Client::connect(port)).collect();
    let mut idle: Vec<Client> = anyhow::Result::from_iter::<Vec<_>>(connect(between(1000, 5000)))?;
    for client in &mut idle {
        client.ok("PING")?;
    }
    job.end_phase("idle clients")?;
    let mut busy: Vec<Client> = anyhow::Result::from_iter::<Vec<_>>(connect(between(100, 500)))?;
    let (rounds, keys) = (between(60, 300), between(200_000, 2_000_000));
    let mut number = 0;
    for _ in 0..rounds {
        // All have requests on their way at the same time.
        for client in &mut busy {
            let mut bytes = Vec::new();
            for _ in 0..16 {
                number += 1;
                let at = number * 7919 % keys;
                let key = format!("key:{at}");
                encode(&mut bytes, &[b"SET", key.as_bytes(), &value(at)]);
                let other = format!("key:{}", number * 104_729 % keys);
                encode(&mut bytes, &[b"GET", other.as_bytes()]);
            }
            client.send_raw(&bytes)?;
        }
        for client in &mut busy {
            for _ in 0..32 {
                if let Reply::Error(text) = client.receive()? {
                    anyhow::bail!("{text}");
                }
            }
        }
    }
    job.end_phase("busy clients")?;
    for client in idle.iter_mut().step_by(100) {
        client.ok("PING")?;
    }
    job.kill()
}

#[test]
fn clients_that_do_not_read_cost_no_more_than_their_share() -> anyhow::Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let mut job = Job::start("slow readers", folder.path(), APPEND_ONLY)?;
    job.wait_companions()?;
    let bytes = vec![b'v'; 200_000];
    for i in 0..20 {
        job.client
            .run(&["SET".as_bytes(), format!("large:{i}").as_bytes(), &bytes])?;
    }
    let mut stuck = Vec::new();
    for _ in 0..between(40, 200) {
        let mut client = Client::connect(job.server.port)?;
        let mut requests = Vec::new();
        for i in 0..between(100, 400) {
            encode(
                &mut requests,
                &[b"GET".as_slice(), format!("large:{}", i % 20).as_bytes()],
            );
        }
        client.send_raw(&requests)?;
        stuck.push(client);
    }
    // Others are served meanwhile, and what was stuck goes on or has been told to go.
    for i in 0..between(20_000, 200_000) {
        let key = format!("key:{}", i % 1000);
        job.client
            .run(&["SET".as_bytes(), key.as_bytes(), &value(i)])?;
    }
    job.end_phase("slow readers")?;
    for mut client in stuck {
        client.set_reply_wait(Duration::from_secs(30))?;
        if let Ok(reply) = client.receive() {
            ensure!(
                matches!(reply, Reply::Bulk(_) | Reply::Error(_)),
                "{reply:?}"
            );
        }
    }
    job.kill()
}

#[test]
fn a_value_larger_than_all_memory_is_refused_and_others_do_not_notice() -> anyhow::Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let mut job = Job::start("huge values", folder.path(), APPEND_ONLY)?;
    job.wait_companions()?;
    job.client.ok("SET small 1")?;
    let bytes = 512 * MIB as usize;
    let mut stream = TcpStream::connect(("127.0.0.1", job.server.port))?;
    stream.set_write_timeout(Some(redrock_integration_tests::scale::PATIENCE))?;
    let sent = stream
        .write_all(format!("*3\r\n$3\r\nSET\r\n$4\r\nhuge\r\n${bytes}\r\n").as_bytes())
        .and_then(|()| {
            let part = vec![b'h'; 1 << 20];
            (0..bytes / part.len()).try_for_each(|_| stream.write_all(&part))
        });
    // An answer, or the end of the connection: not a server that reads on for ever.
    ensure!(sent.is_err() || Client::connect(job.server.port)?.ok("PING").is_ok());
    job.end_phase("SET of 512 MB")?;
    for command in [
        format!("SETRANGE grown {} x", bytes - 1),
        format!("SETBIT grown {} 1", bytes as u64 * 8 - 1),
    ] {
        let refused = job.client.ok(&command);
        let text = format!("{refused:?}");
        ensure!(
            refused.is_err() && text.contains("maxmemory"),
            "{command}: {text}"
        );
    }
    // As large as it may be: handled.
    let most = vec![b'm'; (max_memory_mib() * MIB / 16) as usize];
    for i in 0..40 {
        let key = format!("most:{i}");
        let reply = job.client.run(&["SET".as_bytes(), key.as_bytes(), &most])?;
        ensure!(reply == Reply::Status("OK".into()), "{key}: {reply:?}");
    }
    let reply = job.client.run(&["GET", "most:0"])?;
    ensure!(reply == Reply::Bulk(most), "the value differs");
    ensure!(
        job.client.ok("GET small")?.text() == "1" && job.client.ok("EXISTS huge")?.int() == Some(0)
    );
    job.end_phase("the largest values")?;
    job.kill()
}
