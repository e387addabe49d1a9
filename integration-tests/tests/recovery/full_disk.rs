//! A full disk: writes are refused, what was acknowledged stays, and room brings writes back.

use super::{AOF, policy};
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::Reply;
use redrock_integration_tests::small_disk::SmallDisk;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn a_full_disk_refuses_writes_keeps_what_was_acknowledged_and_comes_back() {
    let Some(disk) = SmallDisk::mount(16 << 20) else {
        return;
    };
    let server = Server::start(Kind::RedRock, disk.path(), &policy("everysec")).unwrap();
    let mut client = server.client().unwrap();
    let value = "x".repeat(20_000);
    let mut acknowledged = 0;
    let refusal = loop {
        match client.run(&["RPUSH", "list", &value]).unwrap() {
            Reply::Int(n) => acknowledged = n,
            Reply::Error(text) => break text,
            other => panic!("{other:?}"),
        }
        assert!(acknowledged < 10_000, "the disk never filled up");
    };
    assert_eq!(
        refusal,
        "MISCONF Errors writing to the AOF file: No space left on device"
    );
    // Reading goes on.
    assert_eq!(client.ok("LLEN list").unwrap().int(), Some(acknowledged));
    assert!(
        client
            .ok("INFO persistence")
            .unwrap()
            .text()
            .contains("aof_last_write_status:err")
    );
    server.kill().unwrap();

    // Room again by an administrator's hand, here a larger disk.
    let server = Server::start(Kind::RedRock, disk.path(), &policy("everysec")).unwrap();
    let mut client = server.client().unwrap();
    assert_eq!(client.ok("LLEN list").unwrap().int(), Some(acknowledged));
    let refusal = loop {
        if let Reply::Error(text) = client.run(&["RPUSH", "list", &value]).unwrap() {
            break text;
        }
        acknowledged += 1;
    };
    assert!(refusal.starts_with("MISCONF"), "{refusal}");
    let grown = std::process::Command::new("mount")
        .args(["-o", "remount,size=64m"])
        .arg(disk.path())
        .status()
        .unwrap();
    assert!(grown.success());
    let recovered = Arc::new(AtomicBool::new(false));
    for _ in 0..100 {
        if let Reply::Int(n) = client.run(&["RPUSH", "list", "after"]).unwrap() {
            acknowledged += 1;
            assert_eq!(n, acknowledged);
            recovered.store(true, Ordering::Relaxed);
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(recovered.load(Ordering::Relaxed), "{}", server.log_text());
    server.kill().unwrap();
    let server = Server::start(Kind::RedRock, disk.path(), &AOF).unwrap();
    let mut client = server.client().unwrap();
    assert_eq!(client.ok("LLEN list").unwrap().int(), Some(acknowledged));
    assert_eq!(client.ok("LINDEX list -1").unwrap().text(), "after");
}
