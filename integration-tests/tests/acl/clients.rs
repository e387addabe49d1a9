//! What becomes of connections whose users change.

use super::{error, start, texts};
use anyhow::ensure;
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::{Client, Reply};
use std::time::{Duration, Instant};

fn server() -> anyhow::Result<(tempfile::TempDir, Server)> {
    let folder = tempfile::tempdir()?;
    let server = start(Kind::RedRock, folder.path(), &[])?;
    Ok((folder, server))
}

fn login(server: &Server, user: &str) -> anyhow::Result<Client> {
    let mut client = server.client()?;
    ensure!(client.ok(&format!("AUTH {user} x"))? == Reply::Status("OK".into()));
    Ok(client)
}

fn is_closed(client: &mut Client) -> bool {
    client.run(&["PING"]).is_err()
}

/// Waits until so many clients are blocked.
fn wait_blocked(admin: &mut Client, count: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + redrock_integration_tests::scale::PATIENCE;
    loop {
        let text = admin.ok("INFO clients")?.text();
        if text.contains(&format!("blocked_clients:{count}\r\n")) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{text}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn clients_of_removed_users_are_closed() -> anyhow::Result<()> {
    let (_folder, server) = server()?;
    let mut admin = server.client()?;
    for user in ["alice", "bob"] {
        admin.ok(&format!("ACL SETUSER {user} on nopass ~* &* +@all"))?;
    }
    let (mut alice, mut bob) = (login(&server, "alice")?, login(&server, "bob")?);
    let mut waiting = login(&server, "alice")?;
    waiting.send(&["BLPOP", "none", "0"])?;
    wait_blocked(&mut admin, 1)?;
    let list = admin.ok("CLIENT LIST")?.text();
    ensure!(list.matches(" user=alice ").count() == 2, "{list}");
    ensure!(admin.ok("ACL DELUSER alice")? == Reply::Int(1));
    ensure!(is_closed(&mut alice) && waiting.receive().is_err());
    ensure!(bob.ok("ACL WHOAMI")?.text() == "bob");
    ensure!(admin.ok("CLIENT KILL USER bob")? == Reply::Int(1));
    ensure!(is_closed(&mut bob));
    // Who removes its own user has its answer first.
    let mut bob = login(&server, "bob")?;
    ensure!(bob.ok("ACL DELUSER bob")? == Reply::Int(1));
    ensure!(is_closed(&mut bob));
    Ok(())
}

#[test]
fn listeners_to_channels_no_longer_allowed_are_closed() -> anyhow::Result<()> {
    let (_folder, server) = server()?;
    let mut admin = server.client()?;
    admin.ok("ACL SETUSER alice on nopass +@all &a* &b*")?;
    let mut clients = Vec::new();
    for line in [
        "SUBSCRIBE a1",
        "PSUBSCRIBE a*",
        "SSUBSCRIBE a1",
        "SUBSCRIBE b1",
        "PSUBSCRIBE b*",
    ] {
        let mut client = login(&server, "alice")?;
        client.ok(line)?;
        clients.push(client);
    }
    admin.ok("ACL SETUSER alice &c*")?;
    for client in &mut clients {
        client.ok("PING")?;
    }
    admin.ok("ACL SETUSER alice resetchannels &b*")?;
    let closed: Vec<bool> = clients.iter_mut().map(is_closed).collect();
    ensure!(closed == [true, true, true, false, false], "{closed:?}");
    Ok(())
}

#[test]
fn queued_and_waiting_commands_are_checked_when_they_run() -> anyhow::Result<()> {
    let (_folder, server) = server()?;
    let mut admin = server.client()?;
    admin.ok("ACL SETUSER alice on nopass ~* +@all")?;
    let mut alice = login(&server, "alice")?;
    alice.ok("MULTI")?;
    for line in ["SET a 1", "GET a", "SET b 1", "PUBLISH x y"] {
        let queued = alice.run(&line.split(' ').collect::<Vec<_>>())?;
        let expected = line != "PUBLISH x y";
        ensure!(
            (queued == Reply::Status("QUEUED".into())) == expected,
            "{queued:?}"
        );
    }
    ensure!(error(&mut alice, "EXEC")?.starts_with("EXECABORT"));
    alice.ok("MULTI")?;
    for line in ["SET a 1", "GET a", "SET b 1"] {
        alice.ok(line)?;
    }
    admin.ok("ACL SETUSER alice -get resetkeys ~a")?;
    let replies = alice.ok("EXEC")?.elements();
    let start = "NOPERM ACLs rules changed between the moment the transaction was accumulated and \
                 the EXEC call. This command is no longer allowed for the following reason: no \
                 permission to ";
    let expected = [
        Reply::Status("OK".into()),
        Reply::Error(format!("{start}execute the command or subcommand")),
        Reply::Error(format!("{start}touch the specified keys")),
    ];
    ensure!(replies == expected, "{replies:?}");
    alice.send(&["BLPOP", "a", "0"])?;
    admin.ok("DEL a")?;
    let mut waiting = login(&server, "alice")?;
    waiting.send(&["BLPOP", "a", "0"])?;
    drop(alice);
    wait_blocked(&mut admin, 1)?;
    admin.ok("ACL SETUSER alice -blpop")?;
    admin.ok("RPUSH a x")?;
    let refused = waiting.receive()?;
    let text = "NOPERM User alice has no permissions to run the 'blpop' command";
    ensure!(refused == Reply::Error(text.into()), "{refused:?}");
    ensure!(admin.ok("LLEN a")? == Reply::Int(1));
    let commands = admin.ok("INFO commandstats")?.text();
    let blpop = commands
        .lines()
        .find(|line| line.starts_with("cmdstat_blpop:"));
    ensure!(
        blpop.is_some_and(|line| line.contains(",rejected_calls=1,")),
        "{blpop:?}"
    );
    let info = admin.ok("INFO stats")?.text();
    for line in ["auth:0", "cmd:2", "key:1", "channel:1"] {
        ensure!(
            info.contains(&format!("acl_access_denied_{line}\r\n")),
            "{line}: {info}"
        );
    }
    Ok(())
}

#[test]
fn sort_needs_all_keys_only_for_patterns() -> anyhow::Result<()> {
    let (_folder, server) = server()?;
    let mut admin = server.client()?;
    admin.ok("RPUSH a 2 1")?;
    admin.ok("ACL SETUSER alice on nopass +@all ~a")?;
    let mut alice = login(&server, "alice")?;
    alice.ok("SORT a BY constant")?;
    for (line, option) in [
        ("SORT a BY w*", "BY"),
        ("SORT a GET #", "GET"),
        ("SORT_RO a GET w*", "GET"),
    ] {
        let text = error(&mut alice, line)?;
        let expected =
            format!("ERR {option} option of SORT denied due to insufficient ACL permissions.");
        ensure!(text == expected, "{text}");
    }
    admin.ok("ACL SETUSER alice %R~*")?;
    let sorted = texts(alice.ok("SORT a BY w* GET #")?);
    ensure!(sorted.len() == 2, "{sorted:?}");
    Ok(())
}

#[test]
fn the_default_user_can_be_closed() -> anyhow::Result<()> {
    let (_folder, server) = server()?;
    let mut admin = server.client()?;
    admin.ok("ACL SETUSER root on >secret ~* &* +@all")?;
    admin.ok("AUTH root secret")?;
    admin.ok("ACL SETUSER default off")?;
    let mut other = server.client()?;
    ensure!(error(&mut other, "GET a")?.starts_with("NOAUTH"));
    ensure!(error(&mut other, "AUTH default x")?.starts_with("WRONGPASS"));
    other.ok("HELLO 2 AUTH root secret")?;
    ensure!(other.ok("ACL WHOAMI")?.text() == "root");
    other.ok("RESET")?;
    ensure!(error(&mut other, "ACL WHOAMI")?.starts_with("NOAUTH"));
    admin.ok("ACL SETUSER default on nopass")?;
    ensure!(other.ok("ACL WHOAMI")?.text() == "default");
    Ok(())
}
