//! Generates the gRPC code and the descriptor set that reflection serves.

use std::path::PathBuf;

const FILES: [&str; 7] = [
    "common", "snapshot", "log", "load", "persist", "replica", "admin",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos: Vec<PathBuf> = FILES
        .iter()
        .map(|name| PathBuf::from(format!("proto/redrock/v1/{name}.proto")))
        .collect();
    let descriptor = PathBuf::from(std::env::var("OUT_DIR")?).join("redrock_descriptor.bin");
    tonic_prost_build::configure()
        // Payloads are shared with the receive buffer instead of being copied.
        .bytes(".redrock.v1")
        .file_descriptor_set_path(descriptor)
        .compile_protos(&protos, &[PathBuf::from("proto")])?;
    Ok(())
}
