//! Results on standard output: a table for people or JSON for programs.

use std::io::Write;

use redrock_proto::RpcError;
use serde_json::Value;

/// How results are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        Output { json }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a result; only the shape wanted is made.
    pub(crate) fn show(
        &self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), RpcError> {
        if self.json {
            self.json_document(&json())
        } else {
            write_out(&text())
        }
    }

    /// A result of an action that has no other: nothing to read in a table.
    pub(crate) fn done(&self, text: &str) -> Result<(), RpcError> {
        self.show(|| serde_json::json!({ "ok": true }), || format!("{text}\n"))
    }

    fn json_document(&self, value: &Value) -> Result<(), RpcError> {
        write_out(&format!("{value:#}\n"))
    }

    /// One line of a sequence.
    pub(crate) fn json_line(&self, value: &Value) -> Result<(), RpcError> {
        write_out(&format!("{value}\n"))
    }
}

fn write_out(text: &str) -> Result<(), RpcError> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| RpcError::internal(format!("write the result: {error}")))
}
