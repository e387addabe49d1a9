//! A replica gets times as its master has them, hides what is over, and deletes nothing itself.

use crate::{FAR, TIERED, error, info, number, start, until};
use redrock_integration_tests::resp::Client;

/// Waits until the replica has all that the master wrote, then compares the data.
fn same_data(master: &mut Client, replica: &mut Client) -> anyhow::Result<()> {
    master.ok("INCR same-data")?;
    let reached = master.ok("WAIT 1 100000")?.int();
    anyhow::ensure!(reached == Some(1), "{reached:?} replicas have everything");
    assert_eq!(master.ok("DEBUG DIGEST")?, replica.ok("DEBUG DIGEST")?);
    Ok(())
}

fn companions_up(client: &mut Client) -> anyhow::Result<()> {
    until("companions", || {
        let text = client.ok("INFO companions")?.text();
        Ok(text.matches("state=up").count() == 2)
    })
}

#[test]
fn a_replica_has_the_times_of_its_master_and_deletes_by_its_word_alone() -> anyhow::Result<()> {
    for (options, append_only) in [(&[][..], "yes"), (&TIERED, "yes"), (&[], "no")] {
        let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let options = [options, &["--appendonly", append_only]].concat();
        let (first, second) = (
            start(ours.path(), &options)?,
            start(theirs.path(), &options)?,
        );
        let (mut master, mut replica) = (first.client()?, second.client()?);
        companions_up(&mut master)?;
        companions_up(&mut replica)?;
        master.ok(&format!("HSETEX before PXAT {FAR} FIELDS 2 a 1 b 2"))?;
        replica.ok(&format!("REPLICAOF 127.0.0.1 {}", first.port))?;
        until("the link", || {
            Ok(info(&mut replica, "replication", "master_link_status")? == "up")
        })?;
        for line in [
            "HSET h a 1 b 2 c 3 d 4",
            "HEXPIRE h 100000 FIELDS 2 a b",
            "HEXPIRE h 200000 GT FIELDS 3 a c none",
            "HINCRBYFLOAT h a 1.5",
            "HGETEX h EX 3000 FIELDS 1 c",
            "HSETEX h KEEPTTL FIELDS 2 b 9 e 5",
            "HPERSIST h FIELDS 1 c",
            "HPEXPIREAT h 1 FIELDS 1 d",
            "HGETDEL h FIELDS 1 e",
        ] {
            master.ok(line)?;
        }
        same_data(&mut master, &mut replica)?;
        for line in [
            "HPEXPIRETIME h FIELDS 5 a b c d e",
            "HPEXPIRETIME before FIELDS 2 a b",
        ] {
            assert_eq!(master.ok(line)?, replica.ok(line)?, "{line}");
        }
        // Over: hidden by both, deleted by none.
        master.ok("DEBUG SET-ACTIVE-EXPIRE 0")?;
        master.ok("HSETEX over PX 1 FIELDS 2 a 1 b 2")?;
        master.ok("HSET over c 3")?;
        same_data(&mut master, &mut replica)?;
        until("its time", || {
            Ok(replica.ok("HGET over a")?.text().is_empty())
        })?;
        assert_eq!(replica.ok("HGETALL over")?.elements().len(), 2);
        assert_eq!(replica.ok("HLEN over")?.int(), Some(3));
        assert_eq!(number(&mut replica, "stats", "expired_subkeys")?, 0);
        let refusal = error(&mut replica, "HEXPIRE over 5 FIELDS 1 c")?;
        assert!(refusal.starts_with("READONLY"), "{refusal}");
        // Met by a client of the master: one goes. Then all.
        assert_eq!(master.ok("HINCRBY over a 5")?.int(), Some(5));
        same_data(&mut master, &mut replica)?;
        assert_eq!(replica.ok("HGET over a")?.text(), "5");
        master.ok("DEBUG SET-ACTIVE-EXPIRE 1")?;
        until("the master's word", || {
            Ok(replica.ok("HLEN over")?.int() == Some(2))
        })?;
        same_data(&mut master, &mut replica)?;
    }
    Ok(())
}
