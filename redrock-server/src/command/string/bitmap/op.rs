//! BITOP: bitwise operations over whole strings.

use crate::command::error::{CommandError, CommandResult};
use crate::command::{Args, Context};
use crate::keyspace::db::{Expiry, StringRef};
use crate::notify::Class;
use crate::value::Object;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

/// BITOP AND | OR | XOR | NOT destination key [key ...]
pub(in crate::command::string) fn bitop(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    const OPERATIONS: [(&str, Operation); 4] = [
        ("and", Operation::And),
        ("or", Operation::Or),
        ("xor", Operation::Xor),
        ("not", Operation::Not),
    ];
    let named = OPERATIONS.into_iter().find(|(name, _)| args.is(1, name));
    let (_, operation) = named.ok_or(CommandError::Syntax)?;
    let (destination, sources) = (args.at(2), args.from(3));
    if operation == Operation::Not && sources.len() != 1 {
        return Err(CommandError::fixed(
            "ERR BITOP NOT must be called with a single source key.",
        ));
    }
    let mut result: Option<Vec<u8>> = None;
    for key in sources {
        let value = ctx.db.read_string(key)?.unwrap_or(StringRef::Bytes(b""));
        let mut digits = itoa::Buffer::new();
        let bytes = value.as_bytes(&mut digits);
        match &mut result {
            None => result = Some(bytes.to_vec()),
            Some(result) => combine(result, bytes, operation),
        }
    }
    let mut result = result.unwrap_or_default();
    if operation == Operation::Not {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let len = result.len();
    if len > 0 {
        ctx.db
            .set_object(destination, Object::Raw(result), Expiry::Clear)?;
        ctx.changed(destination, Class::STRING, "set");
    } else if ctx.db.remove(destination)? {
        ctx.changed(destination, Class::GENERIC, "del");
    }
    ctx.reply.len_int(len);
    Ok(())
}

/// The shorter of the two is padded with zeros. Plain loops: the compiler makes them wide.
fn combine(result: &mut Vec<u8>, bytes: &[u8], operation: Operation) {
    if result.len() < bytes.len() {
        result.reserve_exact(bytes.len() - result.len());
        result.resize(bytes.len(), 0);
    }
    let (shared, beyond) = result.split_at_mut_checked(bytes.len()).unwrap_or_default();
    let pairs = shared.iter_mut().zip(bytes);
    match operation {
        Operation::And => {
            pairs.for_each(|(a, b)| *a &= b);
            beyond.fill(0);
        }
        Operation::Or => pairs.for_each(|(a, b)| *a |= b),
        Operation::Xor => pairs.for_each(|(a, b)| *a ^= b),
        Operation::Not => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_strings_are_padded_with_zeros() {
        for (operation, short_first, long_first) in [
            (Operation::And, [0x0c, 0, 0], [0x0c, 0, 0]),
            (Operation::Or, [0x3f, 7, 8], [0x3f, 7, 8]),
            (Operation::Xor, [0x33, 7, 8], [0x33, 7, 8]),
        ] {
            let (short, long) = (vec![0x0f], vec![0x3c, 7, 8]);
            let mut result = short.clone();
            combine(&mut result, &long, operation);
            assert_eq!(result, short_first);
            let mut result = long;
            combine(&mut result, &short, operation);
            assert_eq!(result, long_first);
        }
    }
}
