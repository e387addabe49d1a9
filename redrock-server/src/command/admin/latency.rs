//! LATENCY: the latency monitor's spikes and the commands' histograms.

mod doctor;

use crate::command::table::{Group, Spec, flag};
use crate::command::{Args, CommandError, CommandResult, Context, registry};
use crate::latency::Series;
use crate::stats::HistogramSnapshot;

/// LATENCY and its subcommands.
pub(super) const LATENCY: Spec = Spec::new("latency", -2, 0, help)
    .group(Group::Server)
    .doc("2.8.13", "A container for latency diagnostics commands.")
    .sub(&[
        Spec::new(
            "latency|doctor",
            2,
            flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
            doctor,
        )
        .group(Group::Server)
        .doc(
            "2.8.13",
            "Returns a human-readable latency analysis report.",
        ),
        Spec::new(
            "latency|graph",
            3,
            flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
            graph,
        )
        .group(Group::Server)
        .doc("2.8.13", "Returns a latency graph for an event."),
        Spec::new("latency|help", 2, flag::LOADING | flag::STALE, help)
            .group(Group::Server)
            .doc(
                "2.8.13",
                "Returns helpful text about the different subcommands.",
            ),
        Spec::new(
            "latency|histogram",
            -2,
            flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
            histogram,
        )
        .group(Group::Server)
        .doc(
            "7.0.0",
            "Returns the cumulative distribution of latencies of a subset or all commands.",
        ),
        Spec::new(
            "latency|history",
            3,
            flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
            history,
        )
        .group(Group::Server)
        .doc("2.8.13", "Returns timestamp-latency samples for an event."),
        Spec::new(
            "latency|latest",
            2,
            flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
            latest,
        )
        .group(Group::Server)
        .doc(
            "2.8.13",
            "Returns the latest latency samples for all events.",
        ),
        Spec::new(
            "latency|reset",
            -2,
            flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
            reset,
        )
        .group(Group::Server)
        .doc("2.8.13", "Resets the latency data for one or more events."),
    ]);

fn history(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let series = ctx
        .server
        .latency
        .event(args.at(2))
        .map(|(_, series)| series)
        .unwrap_or_default();
    ctx.reply.array(series.spikes.len());
    for spike in series.spikes {
        ctx.reply.array(2);
        ctx.reply.int(spike.time_s);
        ctx.reply.int(spike.latency_ms as i64);
    }
    Ok(())
}

fn latest(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let events = ctx.server.latency.all();
    ctx.reply.array(events.len());
    for (event, series) in events {
        let last = series.spikes.last().copied().unwrap_or_default();
        ctx.reply.array(4);
        ctx.reply.bulk(event.as_bytes());
        ctx.reply.int(last.time_s);
        ctx.reply.int(last.latency_ms as i64);
        ctx.reply.int(series.max_ms as i64);
    }
    Ok(())
}

fn reset(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let names = args.from(2);
    let count = ctx
        .server
        .latency
        .reset((!names.is_empty()).then_some(names));
    ctx.reply.len_int(count);
    Ok(())
}

fn doctor(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let report = doctor::report(&ctx.server.latency.all(), ctx.config);
    ctx.reply.verbatim(report.as_bytes(), "txt");
    Ok(())
}

fn graph(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let Some((event, series)) = ctx.server.latency.event(args.at(2)) else {
        let name = String::from_utf8_lossy(args.at(2)).into_owned();
        return Err(CommandError::text(format!(
            "ERR No samples available for event '{name}'"
        )));
    };
    let graph = draw(event, &series, ctx.now_ms() / 1000);
    ctx.reply.verbatim(graph.as_bytes(), "txt");
    Ok(())
}

/// Columns of a graph.
const COLUMNS: usize = 80;
/// Lines of its bars.
const ROWS: usize = 4;

/// Bars of the spikes, oldest first, each labelled from top to bottom with its age.
fn draw(event: &str, series: &Series, now_s: i64) -> String {
    let age = |time_s: i64| match now_s - time_s {
        s @ ..60 => format!("{s}s"),
        s @ ..3600 => format!("{}m", s / 60),
        s @ ..86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    };
    let values = series.spikes.iter().map(|spike| spike.latency_ms);
    let low = values.clone().min().unwrap_or(0);
    let high = values.max().unwrap_or(0);
    let mut text = format!(
        "{event} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        series.max_ms,
        "-".repeat(COLUMNS)
    );
    for spikes in series.spikes.chunks(COLUMNS) {
        // Three shades a row, as Redis's sparklines: `_`, `o` below the top, `#` at the top.
        let steps = (ROWS * 3 - 1) as u64;
        let levels: Vec<u64> = spikes
            .iter()
            .map(|s| (s.latency_ms - low) * steps / (high - low).max(1))
            .collect();
        for row in (0..ROWS as u64).rev() {
            let line: String = levels
                .iter()
                .map(|&level| match level.checked_sub(row * 3) {
                    None => ' ',
                    Some(0) => '_',
                    Some(1) => 'o',
                    Some(2) => '#',
                    Some(_) => '|',
                })
                .collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        let labels: Vec<Vec<char>> = spikes
            .iter()
            .map(|spike| age(spike.time_s).chars().collect())
            .collect();
        text.push('\n');
        for i in 0..labels.iter().map(Vec::len).max().unwrap_or(0) {
            let line: String = labels
                .iter()
                .map(|label| label.get(i).copied().unwrap_or(' '))
                .collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

fn histogram(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let stats = &ctx.server.stats;
    let wanted: Vec<&Spec> = match args.len() {
        2 => registry::numbered().to_vec(),
        _ => (args.from(2).iter())
            .filter_map(|name| registry::find_full(name))
            .flat_map(|spec| std::iter::once(spec).chain(spec.subcommands))
            .collect(),
    };
    let found: Vec<(&str, HistogramSnapshot)> = wanted
        .into_iter()
        .filter_map(|spec| Some((spec.name, stats.histogram(spec)?)))
        .collect();
    ctx.reply.map(found.len());
    for (name, histogram) in found {
        let steps = histogram.distribution();
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.map(2);
        ctx.reply.bulk(b"calls");
        ctx.reply.int(histogram.total() as i64);
        ctx.reply.bulk(b"histogram_usec");
        ctx.reply.map(steps.len());
        for (micros, count) in steps {
            ctx.reply.int(micros as i64);
            ctx.reply.int(count as i64);
        }
    }
    Ok(())
}

fn help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    super::help(
        ctx,
        "LATENCY",
        &[
            "DOCTOR",
            "    Return a human readable latency analysis report.",
            "GRAPH <event>",
            "    Return an ASCII latency graph for the <event> class.",
            "HISTORY <event>",
            "    Return time-latency samples for the <event> class.",
            "LATEST",
            "    Return the latest latency samples for all events.",
            "RESET [<event> ...]",
            "    Reset latency data of one or more <event> classes.",
            "    (default: reset all data for all event classes)",
            "HISTOGRAM [COMMAND ...]",
            "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
            "    If no commands are specified then all histograms are replied.",
        ],
    )
}
