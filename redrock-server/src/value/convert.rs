//! Collections as libs/rdb decodes them, turned into the forms that commands work on.

use super::{Limits, Object};
use redrock_rdb::object::{self, ObjectError};

/// Converts a decoded collection.
pub fn collection(decoded: object::Object, _limits: &Limits) -> Result<Object, ObjectError> {
    match decoded {
        object::Object::String(bytes) => Ok(Object::Raw(bytes)),
        _ => Err(ObjectError::EmptyKey),
    }
}
