//! Redis's line format: `pid:role day month year time mark message`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

pub(super) struct RedisLines {
    role: Arc<AtomicU8>,
    pid: u32,
}

impl RedisLines {
    pub(super) fn new(role: Arc<AtomicU8>) -> RedisLines {
        RedisLines {
            role,
            pid: std::process::id(),
        }
    }
}

impl<S, N> FormatEvent<S, N> for RedisLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let role = char::from(self.role.load(Ordering::Relaxed));
        write!(writer, "{}:{role} ", self.pid)?;
        write_local_time(&mut writer)?;
        write!(writer, " {} ", mark(*event.metadata().level()))?;
        for span in context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            write!(writer, "{}", span.name())?;
            let extensions = span.extensions();
            match extensions
                .get::<FormattedFields<N>>()
                .filter(|fields| !fields.is_empty())
            {
                Some(fields) => write!(writer, "{{{fields}}}: ")?,
                None => write!(writer, ": ")?,
            }
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

fn mark(level: Level) -> char {
    match level {
        Level::ERROR | Level::WARN => '#',
        Level::INFO => '*',
        Level::DEBUG => '-',
        Level::TRACE => '.',
    }
}

fn write_local_time(writer: &mut Writer<'_>) -> fmt::Result {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = libc::time_t::try_from(now.as_secs()).unwrap_or_default();
    // SAFETY: an all-zero `tm` is valid, and `localtime_r` reads the first
    // pointer, writes the second and keeps neither.
    let local = unsafe {
        let mut local: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const seconds, &raw mut local);
        local
    };
    let month = usize::try_from(local.tm_mon)
        .ok()
        .and_then(|month| MONTHS.get(month));
    write!(
        writer,
        "{:02} {} {} {:02}:{:02}:{:02}.{:03}",
        local.tm_mday,
        month.copied().unwrap_or("???"),
        local.tm_year.saturating_add(1900),
        local.tm_hour,
        local.tm_min,
        local.tm_sec,
        now.subsec_millis()
    )
}
