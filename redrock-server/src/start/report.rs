//! What INFO and ROLE show of the log and the stream.

use crate::log::health::Health;
use crate::log::state::LogKind;
use crate::server::Server;
use redrock_log::sidecar::HexId;

impl Server {
    /// Brings the shown state of log and stream up to date. Called ten times a second.
    pub fn report_log(&self) {
        let log = self.log.state();
        let write_ok = self.log.health() == Health::Good;
        {
            let mut shown = self.state.append_only.lock();
            shown.enabled = log.kind == LogKind::AppendOnly;
            shown.last_write_ok = write_ok;
        }
        let text = |id: HexId| String::from_utf8_lossy(&id).into_owned();
        let mut shown = self.state.replication.lock();
        shown.replid = text(log.replid);
        match log.former {
            Some((id, offset)) => {
                shown.replid2 = text(id);
                // The first offset that is not valid any more, as Redis counts.
                shown.second_offset = i64::try_from(offset).map_or(-1, |offset| offset + 1);
            }
            None => {
                shown.replid2 = "0".repeat(40);
                shown.second_offset = -1;
            }
        }
    }
}
