//! COMMAND DOCS.

use super::facts::{self, ArgumentFacts};
use crate::command::reply::Reply;
use crate::command::table::{Group, Spec};
use crate::command::{Args, CommandResult, Context, registry};

fn group_name(group: Group) -> &'static str {
    match group {
        Group::Generic => "generic",
        Group::String => "string",
        Group::Bitmap => "bitmap",
        Group::List => "list",
        Group::Set => "set",
        Group::SortedSet => "sorted-set",
        Group::Hash => "hash",
        Group::Pubsub => "pubsub",
        Group::Transactions => "transactions",
        Group::Connection => "connection",
        Group::Server => "server",
        Group::Scripting => "scripting",
        Group::Stream => "stream",
        Group::HyperLogLog => "hyperloglog",
        Group::Geo => "geo",
        Group::Cluster => "cluster",
    }
}

pub(super) fn docs(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let specs: Vec<&Spec> = match args.from(2) {
        [] => registry::all().collect(),
        names => names
            .iter()
            .filter_map(|name| registry::find_full(name))
            .collect(),
    };
    ctx.reply.map(specs.len());
    for spec in specs {
        ctx.reply.bulk(spec.name.as_bytes());
        write(&mut ctx.reply, spec);
    }
    Ok(())
}

fn text(reply: &mut Reply<'_>, name: &str, value: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(value.as_bytes());
}

fn words(reply: &mut Reply<'_>, name: &str, values: &[&str]) {
    reply.bulk(name.as_bytes());
    reply.set(values.len());
    for value in values {
        reply.simple(value);
    }
}

fn write(reply: &mut Reply<'_>, spec: &Spec) {
    let facts = facts::of(spec.name);
    let (since, replaced_by) = facts.deprecated.unwrap_or_default();
    let texts = [
        ("summary", spec.summary),
        ("since", spec.since),
        ("group", group_name(spec.group)),
        ("complexity", facts.complexity),
    ];
    let deprecated = [("deprecated_since", since), ("replaced_by", replaced_by)];
    let present = |pairs: &[(&str, &str)]| pairs.iter().filter(|(_, v)| !v.is_empty()).count();
    let others = [
        facts.doc_flags.is_empty(),
        facts.history.is_empty(),
        facts.arguments.is_empty(),
        spec.subcommands.is_empty(),
    ];
    let count = others.iter().filter(|absent| !**absent).count();
    reply.map(present(&texts) + present(&deprecated) + count);
    for (name, value) in texts.iter().filter(|(_, value)| !value.is_empty()) {
        text(reply, name, value);
    }
    if !facts.doc_flags.is_empty() {
        words(reply, "doc_flags", &facts.doc_flags);
    }
    for (name, value) in deprecated.iter().filter(|(_, value)| !value.is_empty()) {
        text(reply, name, value);
    }
    if !facts.history.is_empty() {
        reply.bulk(b"history");
        reply.set(facts.history.len());
        for (since, change) in &facts.history {
            reply.array(2);
            reply.bulk(since.as_bytes());
            reply.bulk(change.as_bytes());
        }
    }
    if !facts.arguments.is_empty() {
        reply.bulk(b"arguments");
        write_arguments(reply, &facts.arguments);
    }
    if !spec.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(spec.subcommands.len());
        for sub in spec.subcommands {
            reply.bulk(sub.name.as_bytes());
            write(reply, sub);
        }
    }
}

fn write_arguments(reply: &mut Reply<'_>, arguments: &[ArgumentFacts]) {
    reply.array(arguments.len());
    for argument in arguments {
        let nested = matches!(argument.kind, "oneof" | "block");
        let present = [
            argument.key_spec.is_some(),
            argument.token.is_some(),
            !argument.since.is_empty(),
            !argument.deprecated.is_empty(),
            !argument.flags.is_empty(),
        ];
        reply.map(3 + present.iter().filter(|present| **present).count());
        text(reply, "name", argument.name);
        text(reply, "type", argument.kind);
        if !nested {
            text(reply, "display_text", argument.display);
        }
        if let Some(index) = argument.key_spec {
            reply.bulk(b"key_spec_index");
            reply.int(index);
        }
        if let Some(token) = argument.token {
            text(reply, "token", token);
        }
        if !argument.since.is_empty() {
            text(reply, "since", argument.since);
        }
        if !argument.deprecated.is_empty() {
            text(reply, "deprecated_since", argument.deprecated);
        }
        if !argument.flags.is_empty() {
            words(reply, "flags", &argument.flags);
        }
        if nested {
            reply.bulk(b"arguments");
            write_arguments(reply, &argument.arguments);
        }
    }
}
