//! The tier's folder is no backup, and nothing that must not be lost is in it alone.

use super::{ALONE, check, fill, report, start};
use redrock_integration_tests::daemons::until;

const COUNT: usize = 2000;
const VALUE_BYTES: usize = 2000;

#[test]
fn the_tier_folder_and_the_readme_say_that_it_is_no_backup() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let _server = start(folder.path(), "128mb", &ALONE)?;
    let text = std::fs::read_to_string(folder.path().join("tier/REDROCK_TIER"))?;
    assert!(
        text.contains("it is NOT a backup: copying it saves nothing"),
        "{text}"
    );
    let readme = std::fs::read_to_string("../README.md")?;
    let said =
        "**The tier folder is no backup.** It holds spilled values of the running server only";
    assert!(readme.contains(said));
    Ok(())
}

#[test]
fn a_tier_that_is_removed_under_a_running_server_with_a_log_costs_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = [&ALONE[..], &["--appendonly", "yes"]].concat();
    let server = start(folder.path(), "128mb", &options)?;
    let mut client = server.client()?;
    let errors = fill(&mut client, "cold", 0..COUNT, VALUE_BYTES)?;
    assert_eq!(errors, [""; 0]);
    until("all values on disk only", || {
        client.ok("ROCKALL")?;
        let [_, _, _, on_disk_only] = report(&mut client)?;
        Ok(on_disk_only == COUNT as i64)
    })?;
    let tier = folder.path().join("tier");
    // RocksDB may add a file meanwhile.
    until("the tier's end", || {
        Ok(std::fs::remove_dir_all(&tier).is_ok() || !tier.exists())
    })?;
    let errors = fill(&mut client, "later", 0..100, VALUE_BYTES)?;
    assert_eq!(errors, [""; 0]);
    server.kill()?;
    let server = start(folder.path(), "128mb", &options)?;
    let mut client = server.client()?;
    check(&mut client, "cold", 0..COUNT, VALUE_BYTES)?;
    check(&mut client, "later", 0..100, VALUE_BYTES)?;
    assert_eq!(client.ok("DBSIZE")?.int(), Some(COUNT as i64 + 100));
    Ok(())
}
