//! Answers as text for people: aligned columns, sizes and times in units.
//! Texts that came over the wire are stripped of control characters, so that
//! no client's address or key can play tricks on a terminal.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redrock_proto::v1;

/// Rows with aligned columns; the last column isn't padded.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Table {
        let mut table = Table { rows: vec![] };
        if !head.is_empty() {
            table.row(head.iter().map(|name| name.to_uppercase()).collect());
        }
        table
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        let clean = |cell: String| cell.replace(char::is_control, " ");
        self.rows.push(cells.into_iter().map(clean).collect());
    }

    /// A line `name value`.
    pub(crate) fn pair(&mut self, name: &str, value: impl ToString) {
        self.row(vec![name.to_owned(), value.to_string()]);
    }

    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                let padding = (width + 2).saturating_sub(cell.chars().count());
                line.extend(std::iter::repeat_n(' ', padding));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

pub(crate) fn status(status: &v1::AdminStatus) -> String {
    let mut page = Table::new(&[]);
    page.pair("version", &status.version);
    page.pair("role", lower(status.role().as_str_name(), "ROLE_"));
    page.pair("port", status.port);
    page.pair("directory", &status.directory);
    page.pair("uptime", duration(status.uptime_ms));
    if let Some(run) = &status.run {
        page.pair("run", format!("{} (epoch {})", run.run_id, run.epoch));
    }
    page.pair("keys", status.keys);
    page.pair("clients", status.clients);
    let commands = format!(
        "{} ({} per second)",
        status.commands_processed, status.commands_per_second
    );
    page.pair("commands", commands);
    if status.loading {
        page.pair("loading", "yes");
    }
    if let Some(log) = &status.log {
        page.pair("log", log_line(log));
        page.pair("unsaved", format!("{} changes", log.changes_since_save));
    }
    if let Some(persist) = &status.persist {
        page.pair("persister", activity(persist));
        page.pair("last save", last_action(persist.last_save.as_ref()));
        page.pair("last rewrite", last_action(persist.last_rewrite.as_ref()));
        page.pair("last backup", last_action(persist.last_backup.as_ref()));
    }
    let mut text = page.render();
    let mut daemons = Table::new(&["daemon", "state", "pid", "starts", "memory", "problem"]);
    for daemon in &status.daemons {
        daemons.row(vec![
            daemon_name(daemon.kind()).to_owned(),
            if daemon.up { "up" } else { "down" }.to_owned(),
            unless_zero(daemon.pid.into(), |pid| pid.to_string()),
            unless_zero(daemon.starts.into(), |starts| starts.to_string()),
            unless_zero(daemon.rss_bytes, size),
            daemon.error.clone(),
        ]);
    }
    text.push('\n');
    text.push_str(&daemons.render());
    let mut warnings = Table::new(&[]);
    for warning in &status.warnings {
        warnings.row(vec![format!("! {warning}")]);
    }
    if !status.warnings.is_empty() {
        text.push('\n');
        text.push_str(&warnings.render());
    }
    text
}

fn log_line(log: &v1::LogState) -> String {
    let kind = lower(log.kind().as_str_name(), "LOG_KIND_");
    let behind = log.written_offset.saturating_sub(log.durable_offset);
    let mut line = format!(
        "{kind}, offset {}, {} not yet synced",
        log.written_offset,
        size(behind)
    );
    if !log.write_error.is_empty() {
        line.push_str(&format!(", refusing writes: {}", log.write_error));
    }
    line
}

fn activity(persist: &v1::PersistStatus) -> String {
    let name = lower(persist.activity().as_str_name(), "ACTIVITY_");
    match &persist.progress {
        Some(running) => progress(&name, running),
        None => name,
    }
}

fn last_action(action: Option<&v1::LastAction>) -> String {
    match action {
        Some(action) if action.ended_unix_ms != 0 => {
            let result = match action.succeeded {
                true => format!("ok, {}", size(action.bytes)),
                false => format!("failed: {}", action.error),
            };
            let took = duration(action.elapsed_ms);
            format!("{}, took {took}, {result}", ago(action.ended_unix_ms))
        }
        _ => "never".to_owned(),
    }
}

pub(crate) fn memory(memory: &v1::AdminMemory) -> String {
    let mut page = Table::new(&[]);
    page.pair("bound", limit(memory.max_bytes));
    page.pair("in use", size(memory.pss_bytes));
    let mut processes = Table::new(&["daemon", "pid", "share", "resident", "peak"]);
    for process in &memory.processes {
        processes.row(vec![
            daemon_name(process.kind()).to_owned(),
            process.pid.to_string(),
            size(process.pss_bytes),
            size(process.rss_bytes),
            size(process.peak_rss_bytes),
        ]);
    }
    let mut parts = Table::new(&["part", "bytes", "limit"]);
    for part in &memory.parts {
        parts.row(vec![
            part.name.clone(),
            size(part.bytes),
            limit(part.limit_bytes),
        ]);
    }
    [page.render(), processes.render(), parts.render()].join("\n")
}

pub(crate) fn tier(tier: &v1::AdminTier) -> String {
    let mut page = Table::new(&[]);
    if !tier.enabled {
        page.pair("tier", "off");
        return page.render();
    }
    page.pair(
        "tier",
        if tier.trouble.is_empty() {
            "ok"
        } else {
            &tier.trouble
        },
    );
    let cold = tier
        .keys_cold_with_stub
        .saturating_add(tier.keys_cold_without_stub);
    page.pair(
        "hot keys",
        format!("{} ({} not yet written)", tier.keys_hot, tier.keys_dirty),
    );
    page.pair(
        "cold keys",
        format!("{cold} ({} without stub)", tier.keys_cold_without_stub),
    );
    page.pair("on disk", size(tier.disk_bytes));
    let queue = format!(
        "{} operations, {}",
        tier.queue_operations,
        size(tier.queue_bytes)
    );
    page.pair("queue", queue);
    page.pair("cold reads", tier.cold_reads);
    let latency = format!(
        "p50 {} us, p99 {} us",
        tier.cold_read_p50_us, tier.cold_read_p99_us
    );
    page.pair("cold latency", latency);
    page.pair("promotions", tier.promotions);
    page.pair("spills", tier.spills);
    page.render()
}

pub(crate) fn backups(backups: &v1::AdminBackups) -> String {
    if backups.files.is_empty() {
        return "no snapshots or backups\n".to_owned();
    }
    let mut table = Table::new(&["kind", "made", "size", "offset", "path"]);
    for file in &backups.files {
        table.row(vec![
            file_kind_name(file.kind()),
            ago(file.created_unix_ms),
            size(file.bytes),
            file.start_offset.to_string(),
            file.path.clone(),
        ]);
    }
    table.render()
}

pub(crate) fn replication(state: &v1::AdminReplication) -> String {
    let mut page = Table::new(&[]);
    if let Some(log) = &state.log {
        page.pair("role", lower(log.role().as_str_name(), "ROLE_"));
        page.pair("replid", &log.replid);
        page.pair("offset", log.written_offset);
        if !log.replid2.is_empty() {
            page.pair(
                "former",
                format!("{} until {}", log.replid2, log.replid2_end_offset),
            );
        }
    }
    page.pair("oldest", state.oldest_offset);
    if !state.master_host.is_empty() {
        page.pair(
            "master",
            format!("{}:{}", state.master_host, state.master_port),
        );
        page.pair("link", lower(state.link().as_str_name(), "LINK_STATUS_"));
        if !state.last_error.is_empty() {
            page.pair("trouble", &state.last_error);
        }
        page.pair("applied", state.applied_offset);
        page.pair("last heard", unless_zero(state.last_io_unix_ms, ago));
        if state.link() == v1::LinkStatus::Sync {
            let total = unless_zero(state.sync_bytes_total, size);
            page.pair(
                "sync",
                format!("{} of {total}", size(state.sync_bytes_read)),
            );
        }
    }
    let written = state.log.as_ref().map_or(0, |log| log.written_offset);
    let mut text = page.render();
    text.push('\n');
    let mut table = Table::new(&["id", "replica", "state", "acked", "behind", "last heard"]);
    for replica in &state.replicas {
        let host = match (
            replica.announced_ip.as_str(),
            replica.address.rsplit_once(':'),
        ) {
            ("", Some((host, _))) => host,
            ("", None) => &replica.address,
            (announced, _) => announced,
        };
        table.row(vec![
            replica.client_id.to_string(),
            format!("{host}:{}", replica.listening_port),
            replica_state_name(replica.state()),
            replica.acked_offset.to_string(),
            size(written.saturating_sub(replica.acked_offset)),
            unless_zero(replica.acked_unix_ms, ago),
        ]);
    }
    if state.replicas.is_empty() {
        text.push_str("no replicas\n");
    } else {
        text.push_str(&table.render());
    }
    text
}

pub(crate) fn settings(reply: &v1::ConfigGetReply) -> String {
    let mut table = Table::new(&[]);
    for setting in &reply.settings {
        table.pair(&setting.name, &setting.value);
    }
    table.render()
}

/// One line of a running action.
pub(crate) fn progress(name: &str, progress: &v1::Progress) -> String {
    let phase = lower(progress.phase().as_str_name(), "PHASE_");
    let mut line = format!("{name}: {phase}, {}", duration(progress.elapsed_ms));
    if !progress.note.is_empty() {
        line.push_str(&format!(", {}", progress.note));
        return line.replace(char::is_control, " ");
    }
    if progress.bytes_total > 0 {
        let percent = progress.bytes_done as f64 * 100.0 / progress.bytes_total as f64;
        let total = size(progress.bytes_total);
        line.push_str(&format!(", {percent:.1} % of {total}"));
    } else if progress.bytes_done > 0 {
        line.push_str(&format!(", {}", size(progress.bytes_done)));
    }
    if progress.keys_total > 0 {
        line.push_str(&format!(
            ", {} of {} keys",
            progress.keys_done, progress.keys_total
        ));
    }
    line.replace(char::is_control, " ")
}

pub(crate) fn outcome(name: &str, outcome: &v1::Outcome) -> String {
    let mut page = Table::new(&[]);
    page.pair(name, format!("done in {}", duration(outcome.elapsed_ms)));
    if !outcome.path.is_empty() {
        page.pair("file", &outcome.path);
        page.pair("size", size(outcome.bytes));
        page.pair("keys", outcome.keys);
    }
    if !outcome.replid.is_empty() {
        page.pair("cut", format!("{} at {}", outcome.replid, outcome.offset));
    }
    let records = outcome
        .records_copied
        .saturating_add(outcome.records_transcoded);
    if records > 0 {
        let percent = outcome.records_copied as f64 * 100.0 / records as f64;
        page.pair(
            "copied as is",
            format!("{percent:.1} % of {records} records"),
        );
    }
    page.render()
}

pub(crate) fn daemon_name(kind: v1::DaemonKind) -> &'static str {
    match kind {
        v1::DaemonKind::Server => "server",
        v1::DaemonKind::Persist => "persist",
        v1::DaemonKind::Replica => "replica",
        v1::DaemonKind::Unspecified => "unknown",
    }
}

pub(crate) fn file_kind_name(kind: v1::FileKind) -> String {
    lower(kind.as_str_name(), "FILE_KIND_")
}

pub(crate) fn replica_state_name(state: v1::ReplicaState) -> String {
    lower(state.as_str_name(), "REPLICA_STATE_")
}

/// `PHASE_COPYING` → `copying`.
pub(crate) fn lower(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix)
        .unwrap_or(name)
        .to_ascii_lowercase()
}

fn unless_zero(value: u64, show: impl FnOnce(u64) -> String) -> String {
    if value == 0 {
        "-".to_owned()
    } else {
        show(value)
    }
}

fn limit(bytes: u64) -> String {
    if bytes == 0 {
        "none".to_owned()
    } else {
        size(bytes)
    }
}

/// Binary units with one decimal.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// Two largest units.
fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

fn ago(unix_ms: u64) -> String {
    let then = UNIX_EPOCH + Duration::from_millis(unix_ms);
    let passed = SystemTime::now().duration_since(then).unwrap_or_default();
    format!(
        "{} ago",
        duration(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_control_characters_vanish() {
        let mut table = Table::new(&["a", "long"]);
        table.row(vec!["xyz\x1b".into(), "é".into()]);
        table.row(vec!["é".into(), "b".into()]);
        assert_eq!(table.render(), "A     LONG\nxyz   é\né     b\n");
    }

    #[test]
    fn sizes_and_durations_read_well() {
        let sizes = [0, 1023, 1024, 1536, 200 << 20, 3 << 40].map(size);
        assert_eq!(
            sizes,
            [
                "0 B",
                "1023 B",
                "1.0 KiB",
                "1.5 KiB",
                "200.0 MiB",
                "3.0 TiB"
            ]
        );
        let durations = [5, 1250, 61_000, 3_660_000, 90_000_000].map(duration);
        assert_eq!(
            durations,
            ["5 ms", "1.2 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]
        );
    }

    #[test]
    fn progress_shows_what_is_known() {
        let mut state = v1::Progress {
            elapsed_ms: 5,
            ..v1::Progress::default()
        };
        state.set_phase(v1::Phase::Copying);
        assert_eq!(progress("save", &state), "save: copying, 5 ms");
        state.bytes_done = 512;
        state.bytes_total = 2048;
        state.keys_done = 1;
        state.keys_total = 4;
        let line = "save: copying, 5 ms, 25.0 % of 2.0 KiB, 1 of 4 keys";
        assert_eq!(progress("save", &state), line);
        state.note = "25.0 % of 4 keys, 0.1 MB/s, 3 s left".into();
        let line = "save: copying, 5 ms, 25.0 % of 4 keys, 0.1 MB/s, 3 s left";
        assert_eq!(progress("save", &state), line);
    }
}
