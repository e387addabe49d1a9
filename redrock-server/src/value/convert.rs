//! Collections as libs/rdb decodes them, turned into the forms that commands work on.

use super::zset::ZSet;
use super::{Limits, Object};
use redrock_rdb::object::{self, ObjectError};

/// Converts a decoded collection.
pub fn collection(decoded: object::Object, limits: &Limits) -> Result<Object, ObjectError> {
    match decoded {
        object::Object::String(bytes) => Ok(Object::Raw(bytes)),
        object::Object::ZSetListpack(pack) => Ok(Object::ZSet(ZSet::from_pack(pack, limits)?)),
        object::Object::ZSet(mut elements) => {
            Ok(Object::ZSet(ZSet::from_elements(&mut elements, limits)?))
        }
        _ => Err(ObjectError::EmptyKey),
    }
}
