//! Dependencies point one way: between crates, and between the server's layers.

use super::ratchet::Ratchet;
use super::source;
use super::text;

/// Which of the project's crates each crate may depend on, tests included. A daemon never
/// depends on another daemon, a library on no daemon.
const CRATES: &[(&str, &[&str])] = &[
    ("libs/rdb", &[]),
    ("libs/log", &[]),
    ("libs/lua-src", &[]),
    ("libs/lua-libs", &[]),
    ("libs/daemon", &["redrock-log", "redrock-proto"]),
    ("libs/tls", &[]),
    ("proto", &[]),
    (
        "redrock-server",
        &[
            "redrock-rdb",
            "redrock-log",
            "redrock-daemon",
            "redrock-proto",
            "redrock-lua-libs",
            "redrock-tls",
        ],
    ),
    (
        "redrock-persist",
        &[
            "redrock-rdb",
            "redrock-log",
            "redrock-daemon",
            "redrock-proto",
        ],
    ),
    (
        "redrock-replica",
        &[
            "redrock-rdb",
            "redrock-log",
            "redrock-daemon",
            "redrock-proto",
            "redrock-tls",
        ],
    ),
    ("redrockctl", &["redrock-daemon", "redrock-proto"]),
    (
        "integration-tests",
        &[
            "redrock-rdb",
            "redrock-log",
            "redrock-daemon",
            "redrock-lua-libs",
            "redrock-proto",
            "redrock-tls",
        ],
    ),
    ("fuzz", &["redrock-rdb", "redrock-log"]),
];

/// What a crate must not know, as names of dependencies.
const FOREIGN: &[(&str, &[&str])] = &[
    (
        "libs/rdb",
        &["tokio", "tonic", "rocksdb", "rustix", "tracing"],
    ),
    ("libs/log", &["tokio", "tonic", "rocksdb"]),
    ("libs/lua-libs", &["tokio", "tonic", "rocksdb", "rustix"]),
    ("libs/tls", &["tokio", "tonic", "rocksdb", "rustix"]),
    ("proto", &["rocksdb", "redis-protocol"]),
    ("redrock-replica", &["rocksdb"]),
    ("redrockctl", &["rocksdb", "redis-protocol"]),
];

/// What code below a folder must not name.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "redrock-server/src/command/",
        &[
            "rocksdb::",
            "tonic::",
            "tokio::net",
            "UnixStream",
            "keyspace::cold",
        ],
    ),
    (
        "redrock-server/src/value/",
        &[
            "rocksdb::",
            "tonic::",
            "tokio::",
            "std::fs",
            "crate::net",
            "crate::command",
            "crate::server",
            "crate::log",
        ],
    ),
    (
        "redrock-server/src/keyspace/hot/",
        &[
            "rocksdb::",
            "tonic::",
            "tokio::",
            "keyspace::cold",
            "super::cold",
            "crate::net",
        ],
    ),
    (
        "redrock-server/src/keyspace/cold/",
        &[
            "tonic::",
            "tokio::",
            "keyspace::hot",
            "crate::net",
            "crate::command",
        ],
    ),
    ("redrock-server/src/", &["file::writer", "RdbWriter"]),
    (
        "libs/rdb/src/",
        &["std::fs", "std::net", "Instant::now", "SystemTime::now"],
    ),
];

#[test]
fn crates_depend_one_way_and_take_the_workspace_s_lints() {
    let mut wrong = Vec::new();
    let manifests: Vec<_> = text::files()
        .into_iter()
        .filter_map(|file| {
            Some((
                file.path.strip_suffix("/Cargo.toml")?.to_owned(),
                file.content,
            ))
        })
        .collect();
    assert!(manifests.len() >= CRATES.len(), "crates are missing");
    for (folder, manifest) in &manifests {
        let Some((_, allowed)) = CRATES.iter().find(|(known, _)| known == folder) else {
            wrong.push(format!("{folder}: unknown crate; name it in layers.rs"));
            continue;
        };
        if !manifest.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{folder}: no `[lints] workspace = true`"));
        }
        let foreign = FOREIGN
            .iter()
            .find(|(known, _)| known == folder)
            .map_or(&[][..], |(_, names)| names);
        for name in dependencies(manifest) {
            let own = name.starts_with("redrock");
            if (own && !allowed.contains(&name)) || foreign.contains(&name) {
                wrong.push(format!("{folder}: must not depend on {name}"));
            }
        }
        for line in manifest
            .lines()
            .filter(|line| line.contains("version = \"") && !line.starts_with("version"))
        {
            wrong.push(format!(
                "{folder}: versions belong into the workspace's manifest: {line}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Names of a manifest's dependencies of all kinds but dev-dependencies on outside crates.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]") {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if !name.is_empty()
                && !name.starts_with('#')
                && (name.starts_with("redrock") || section == "[dependencies]")
            {
                names.push(name);
            }
        }
    }
    names
}

#[test]
fn layers_know_only_what_lies_below_them() {
    let mut ratchet = Ratchet::load("layers.txt", 0);
    for file in source::rust_files().filter(|file| !file.is_test) {
        for (_, words) in LAYERS
            .iter()
            .filter(|(folder, _)| file.path.starts_with(folder))
        {
            for word in *words {
                ratchet.measure(
                    format!("{} {word}", file.path),
                    file.count_in_product(&[word]),
                );
            }
        }
    }
    ratchet.finish("names that a layer must not know");
}
