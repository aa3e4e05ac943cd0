//! Values on their way into statements.

use uuid::Uuid;

/// A value on its way into a statement.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Id(Option<Uuid>),
    Bool(bool),
    /// Lists are arrays in Postgres and JSON in SQLite.
    Ints(Vec<i64>),
    Ids(Vec<Uuid>),
    Texts(Vec<String>),
}

macro_rules! becomes_value {
    ($($from:ty => $of:expr;)*) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                $of(value)
            }
        })*
    };
}

becomes_value! {
    i64 => |value| Self::Int(Some(value));
    u32 => |value| Self::Int(Some(i64::from(value)));
    Option<i64> => Self::Int;
    &str => |value: &str| Self::Text(Some(value.to_owned()));
    String => |value| Self::Text(Some(value));
    Option<String> => Self::Text;
    Uuid => |value| Self::Id(Some(value));
    bool => Self::Bool;
    Vec<i64> => Self::Ints;
    Vec<Uuid> => Self::Ids;
    Vec<String> => Self::Texts;
}
