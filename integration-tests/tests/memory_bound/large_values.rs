//! Many clients that want large cold values at the same time.

use anyhow::ensure;
use redrock_integration_tests::job::{Job, alone, max_memory_mib};
use redrock_integration_tests::memory::MIB;
use redrock_integration_tests::resp::{Client, Reply, encode};
use redrock_integration_tests::scale::between;

/// Bytes of a value.
const LARGE: usize = MIB as usize;

fn name(number: u64) -> String {
    format!("large:{number}")
}

/// A value that does not compress; it begins with its number.
fn value(number: u64) -> Vec<u8> {
    let mut value = format!("{number:08}").into_bytes();
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while value.len() < LARGE {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        value.extend_from_slice(&random.to_le_bytes());
    }
    value
}

/// All clients ask at once, `rounds` times; each reply is looked at with its key's number.
fn ask(
    clients: &mut [Client],
    (rounds, count): (u64, u64),
    command: impl Fn(&[u8]) -> Vec<Vec<u8>>,
    check: impl Fn(u64, Reply) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut next = 0;
    for _ in 0..rounds {
        let mut asked = Vec::new();
        for client in &mut *clients {
            next += 1;
            let number = next * 7919 % count;
            let mut bytes = Vec::new();
            encode(&mut bytes, &command(name(number).as_bytes()));
            client.send_raw(&bytes)?;
            asked.push(number);
        }
        for (client, number) in clients.iter_mut().zip(asked) {
            check(number, client.receive()?)?;
        }
    }
    Ok(())
}

#[test]
fn many_clients_that_want_large_cold_values_stay_within_the_bound() -> anyhow::Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let mut job = Job::start("large values", folder.path(), &["--appendonly", "yes"])?;
    job.wait_companions()?;
    let count = max_memory_mib() * between(2, 10);
    for number in 0..count {
        let key = name(number);
        let reply = job.client.run(&[b"SET", key.as_bytes(), &value(number)])?;
        ensure!(reply == Reply::Status("OK".into()), "{key}: {reply:?}");
    }
    job.end_phase("load")?;
    let port = job.server.port;
    let clients = (0..between(64, 128)).map(|_| Client::connect(port));
    let mut clients: Vec<Client> = anyhow::Result::from_iter(clients)?;
    let rounds = between(5, 50);
    let get = |key: &[u8]| vec![b"GET".to_vec(), key.to_vec()];
    ask(&mut clients, (rounds, count), get, |number, reply| {
        let is_it = matches!(&reply, Reply::Bulk(found) if *found == value(number));
        ensure!(is_it, "{}: {:.100}", name(number), format!("{reply:?}"));
        Ok(())
    })?;
    job.end_phase("reads")?;
    // The whole value comes into memory for one byte.
    let end = LARGE.to_string();
    let grow = |key: &[u8]| {
        vec![
            b"SETRANGE".to_vec(),
            key.to_vec(),
            end.clone().into(),
            b"x".to_vec(),
        ]
    };
    ask(&mut clients, (rounds, count), grow, |number, reply| {
        let length = reply.int();
        ensure!(
            length == Some(LARGE as i64 + 1),
            "{}: {reply:?}",
            name(number)
        );
        Ok(())
    })?;
    job.end_phase("writes into them")?;
    job.kill()
}
