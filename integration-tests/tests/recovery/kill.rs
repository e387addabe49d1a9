//! What a client had acknowledged, or had seen, is there after kill -9.

use super::policy;
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::{Client, Reply, encode};
use std::time::Duration;

/// What one connection got acknowledged before the server died.
struct Acknowledged {
    pushes: i64,
    count: i64,
}

/// Pushes rising numbers onto a list of its own and counts along, until the server is gone.
fn hammer(port: u16, name: usize, pipeline: usize) -> Acknowledged {
    let mut done = Acknowledged {
        pushes: 0,
        count: 0,
    };
    let Ok(mut client) = Client::connect(port) else {
        return done;
    };
    let mut next = 0;
    loop {
        let mut bytes = Vec::new();
        for _ in 0..pipeline {
            next += 1;
            encode(
                &mut bytes,
                &["RPUSH", &format!("list:{name}"), &next.to_string()],
            );
            encode(&mut bytes, &["INCR", &format!("count:{name}")]);
        }
        if client.send_raw(&bytes).is_err() {
            return done;
        }
        for _ in 0..pipeline {
            match (client.receive(), client.receive()) {
                (Ok(Reply::Int(pushes)), Ok(Reply::Int(count))) => {
                    done = Acknowledged { pushes, count };
                }
                (Ok(Reply::Int(pushes)), _) => {
                    done.pushes = pushes;
                    return done;
                }
                _ => return done,
            }
        }
    }
}

#[test]
fn everything_acknowledged_survives_kill_9_under_every_policy() {
    for fsync in ["always", "everysec", "no"] {
        let folder = tempfile::tempdir().unwrap();
        for round in 1..=3 {
            let server = Server::start(Kind::RedRock, folder.path(), &policy(fsync)).unwrap();
            server.client().unwrap().ok("FLUSHALL").unwrap();
            let port = server.port;
            let threads: Vec<_> = (0..6)
                .map(|name| std::thread::spawn(move || hammer(port, name, 1 + 7 * (name % 3))))
                .collect();
            std::thread::sleep(Duration::from_millis(400));
            server.kill().unwrap();
            let acknowledged: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
            let server = Server::start(Kind::RedRock, folder.path(), &policy(fsync)).unwrap();
            let mut client = server.client().unwrap();
            for (name, acknowledged) in acknowledged.iter().enumerate() {
                assert!(
                    acknowledged.pushes > 0,
                    "{fsync}, round {round}: nothing was written"
                );
                let count = client
                    .ok(&format!("GET count:{name}"))
                    .unwrap()
                    .int()
                    .unwrap_or(0);
                assert!(
                    count >= acknowledged.count,
                    "{fsync}, round {round}, client {name}"
                );
                let list = client
                    .ok(&format!("LRANGE list:{name} 0 -1"))
                    .unwrap()
                    .elements();
                assert!(
                    list.len() as i64 >= acknowledged.pushes,
                    "{fsync}, client {name}"
                );
                let in_order = list.iter().zip(1..).all(|(e, n)| e.int() == Some(n));
                assert!(in_order, "{fsync}, client {name}: the list has a hole");
            }
            assert!(server.terminate().unwrap().success());
        }
    }
}

#[test]
fn what_one_client_saw_of_another_s_write_survives_too() {
    let folder = tempfile::tempdir().unwrap();
    for fsync in ["everysec", "always"] {
        let server = Server::start(Kind::RedRock, folder.path(), &policy(fsync)).unwrap();
        let port = server.port;
        let writer = std::thread::spawn(move || hammer(port, 0, 16));
        let reader = std::thread::spawn(move || {
            let mut seen = 0;
            let Ok(mut client) = Client::connect(port) else {
                return seen;
            };
            while let Ok(reply) = client.run(&["GET", "count:0"]) {
                seen = seen.max(reply.int().unwrap_or(0));
            }
            seen
        });
        std::thread::sleep(Duration::from_millis(300));
        server.kill().unwrap();
        writer.join().unwrap();
        let seen = reader.join().unwrap();
        assert!(seen > 0);
        let server = Server::start(Kind::RedRock, folder.path(), &policy(fsync)).unwrap();
        let count = server
            .client()
            .unwrap()
            .ok("GET count:0")
            .unwrap()
            .int()
            .unwrap();
        assert!(
            count >= seen,
            "{fsync}: {seen} was observed, {count} is left"
        );
    }
}
