//! Values to and from RDB object encoding (I3).
