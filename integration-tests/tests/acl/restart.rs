//! Users that outlive a restart: in a file of their own, and in the configuration.

use super::{OURS, error, start, texts};
use anyhow::ensure;
use redrock_integration_tests::process::{Kind, Server, binary, free_port, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn lines(client: &mut Client) -> anyhow::Result<Vec<String>> {
    Ok(texts(client.ok("ACL LIST")?))
}

fn refused(folder: &Path, options: &[&str]) -> anyhow::Result<String> {
    let all = [&OURS, options].concat();
    let (status, text) = Server::refused(Kind::RedRock, folder, free_port()?, &all)?;
    ensure!(!status.success(), "{text}");
    Ok(text)
}

const MANY: [&str; 3] = [
    "ACL SETUSER alice on >secret ~cached:* %R~read:* &news.* +@read -get (~x +set)",
    "ACL SETUSER bob off nopass allkeys allchannels +@all -@dangerous +config|get",
    "ACL SETUSER default on >first >second ~* &* +@all",
];

#[test]
fn an_acl_file_keeps_the_users() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("users.acl");
    let options = ["--aclfile", "users.acl"];
    let text = refused(folder.path(), &options)?;
    ensure!(text.contains("No such file or directory"), "{text}");
    std::fs::write(
        &file,
        "user carol on nopass +ping\nuser default on nopass ~* &* +@all\n",
    )?;
    let server = start(Kind::RedRock, folder.path(), &options)?;
    let mut admin = server.client()?;
    ensure!(texts(admin.ok("ACL USERS")?) == ["carol", "default"]);
    let mut carol = server.client()?;
    carol.ok("AUTH carol x")?;
    for line in MANY {
        admin.ok(line)?;
    }
    let before = lines(&mut admin)?;
    admin.ok("ACL SAVE")?;
    // What is wrong changes nothing.
    let good = std::fs::read(&file)?;
    std::fs::write(&file, "user eve on nopass +@all\nuser frank +nosuch\n")?;
    let text = error(&mut admin, "ACL LOAD")?;
    ensure!(
        text.contains("users.acl:2: Error in applying operation '+nosuch'"),
        "{text}"
    );
    ensure!(lines(&mut admin)? == before);
    carol.ok("PING")?;
    std::fs::write(&file, &good)?;
    admin.ok("ACL LOAD")?;
    ensure!(carol.run(&["PING"]).is_err(), "its user was replaced");
    ensure!(lines(&mut admin)? == before);
    drop(server);
    let server = start(Kind::RedRock, folder.path(), &options)?;
    let mut admin = server.client()?;
    ensure!(error(&mut admin, "GET a")?.starts_with("NOAUTH"));
    admin.ok("AUTH second")?;
    ensure!(lines(&mut admin)? == before);
    let mut alice = server.client()?;
    alice.ok("AUTH alice secret")?;
    ensure!(error(&mut alice, "LRANGE x 0 1")? == "NOPERM No permissions to access a key");
    drop(server);
    if has_redis() {
        let server = start(Kind::Redis, folder.path(), &options)?;
        let mut real = server.client()?;
        real.ok("AUTH first")?;
        ensure!(texts(real.ok("ACL USERS")?) == ["alice", "bob", "carol", "default"]);
    }
    Ok(())
}

#[test]
fn the_configuration_keeps_the_users() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("redis.conf");
    std::fs::write(&file, "user carol on >old +ping\nhz 20\n")?;
    let with_file = |kind| Configured::start(kind, folder.path());
    let server = with_file(Kind::RedRock)?;
    let mut admin = server.client()?;
    for line in MANY {
        admin.ok(line)?;
    }
    admin.ok("ACL DELUSER carol")?;
    admin.ok("CONFIG SET requirepass third")?;
    admin.ok("CONFIG REWRITE")?;
    let before = lines(&mut admin)?;
    drop(server);
    let text = std::fs::read_to_string(&file)?;
    ensure!(
        !text.contains("carol") && text.matches("\nuser ").count() >= 2,
        "{text}"
    );
    for kind in [Kind::RedRock, Kind::Redis] {
        if kind == Kind::Redis {
            if !has_redis() {
                break;
            }
            // Without the options that only we have.
            let kept = |line: &&str| line.starts_with("user ") || line.starts_with("requirepass ");
            let lines: Vec<&str> = text.lines().filter(kept).collect();
            std::fs::write(&file, lines.join("\n"))?;
        }
        let server = with_file(kind)?;
        let mut admin = server.client()?;
        ensure!(error(&mut admin, "AUTH second")?.starts_with("WRONGPASS"));
        admin.ok("AUTH third")?;
        ensure!(texts(admin.ok("ACL USERS")?) == ["alice", "bob", "default"]);
        if kind == Kind::RedRock {
            ensure!(lines(&mut admin)? == before);
        }
        let mut alice = server.client()?;
        ensure!(alice.ok("AUTH alice secret")? == Reply::Status("OK".into()));
    }
    std::fs::write(folder.path().join("users.acl"), "")?;
    let text = refused(
        folder.path(),
        &["--aclfile", "users.acl", "--user", "a", "on"],
    )?;
    ensure!(text.contains("but not both"), "{text}");
    Ok(())
}

/// A server with a configuration file; dropping it kills it.
struct Configured {
    child: Child,
    port: u16,
}

impl Configured {
    fn start(kind: Kind, folder: &Path) -> anyhow::Result<Self> {
        let (program, port) = (
            match kind {
                Kind::RedRock => binary("redrock-server")?,
                Kind::Redis => "redis-server".into(),
            },
            free_port()?,
        );
        let mut command = Command::new(program);
        command.arg("redis.conf").current_dir(folder);
        command.args(["--port", &port.to_string(), "--save", ""]);
        if kind == Kind::RedRock {
            command.args(OURS);
        }
        let child = command.stdout(Stdio::null()).spawn()?;
        let this = Self { child, port };
        let deadline = Instant::now() + redrock_integration_tests::scale::PATIENCE;
        while let Err(error) = this.client().and_then(|mut client| client.run(&["PING"])) {
            ensure!(Instant::now() < deadline, "{error:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(this)
    }

    fn client(&self) -> anyhow::Result<Client> {
        Client::connect(self.port)
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
