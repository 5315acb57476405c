//! Messages and records, declared once.
//!
//! `structures!` takes structures as Kafka's message definitions give them, and makes of each a
//! struct with plain fields, its [`Default`], its [`Wire`](super::Wire) in both directions,
//! and a test that every version reads back what it wrote:
//!
//! ```text
//! structures! {
//!     versions 0..=3, flexible 2..;
//!
//!     /// The comment stays with the struct.
//!     Topic<'a> {
//!         // In every version, and never null.
//!         name: &'a str,
//!         // From version 1 on. Before, and in `Topic::default()`, it is -1.
//!         leader_epoch: i32 [1..] = -1,
//!         // In every version; null from version 2 on. Older ones write null as the empty string.
//!         note: Option<Cow<'a, str>> [0.., nullable 2..],
//!         // A tagged field (KIP-482), left out where it has its default.
//!         is_internal: bool [2.., tag 0],
//!         partitions: Vec<Partition>,
//!     }
//!
//!     #[derive(Copy)]
//!     Partition {
//!         index: i32,
//!     }
//! }
//! ```
//!
//! A field's type says what it is on the wire: integers, `bool`, `Uuid`, `&str` and `Cow<str>`
//! (strings), `Bytes` and `&[u8]`, `Vec` (arrays), other structures, and `Option` of any but the first
//! three where it can be null. A structure may have a type parameter, `Topic<'a, P>`, where many messages
//! share it and differ in a part of it. Versions are patterns as in a `match`. The default of a field without one
//! is its type's. A field is left out in a version that lacks it, whatever it holds. Tagged fields stand
//! in the order of their tags; unknown ones are skipped.
//!
//! What can be read is bounded by [`Reader`](super::Reader): all arrays of a frame draw on one budget.

/// Declares structures: see the [module](self).
macro_rules! structures {
    (
        versions $min:literal ..= $max:literal $(, flexible $flexible:literal ..)?;
        $(
            $(#[$attribute:meta])*
            $name:ident $(<$life:lifetime $(, $parameter:ident)?>)? {
                $(
                    $(#[$field_attribute:meta])*
                    $field:ident: $type:ty
                    $([$versions:pat $(, nullable $nullable:pat)? $(, tag $tag:literal)?])?
                    $(= $default:expr)?
                ),* $(,)?
            }
        )*
    ) => {
        $(
            $(#[$attribute])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $name $(<$life $(, $parameter)?>)? {
                $(
                    $(#[$field_attribute])*
                    $(#[doc = concat!("\n\nVersions `", stringify!($versions), "`.")])?
                    pub $field: $type,
                )*
            }

            impl $(<$life $(, $parameter)?>)? Default for $name $(<$life $(, $parameter)?>)? {
                fn default() -> Self {
                    Self {
                        $($field: $crate::wire::schema::structures!(@default $($default)?),)*
                    }
                }
            }

            impl<'a $($(, $parameter: $crate::wire::Wire<'a>)?)?> $crate::wire::Wire<'a>
                for $name $(<$life $(, $parameter)?>)?
            {
                // Also means that an unused direction is not compiled.
                #[inline]
                fn decode(
                    r: &mut $crate::wire::Reader<'a>,
                    version: i16,
                ) -> Result<Self, $crate::wire::WireError> {
                    $(
                        $crate::wire::schema::structures!(@decode
                            ($crate::wire::Wire::decode(r, version)?)
                            (Some($crate::wire::Wire::decode(r, version)?))
                            version $field
                            [$($versions $(, nullable $nullable)? $(, tag $tag)?)?] $($default)?);
                    )*
                    $crate::wire::schema::structures!(@decode_tags r version [$($($($tag)?)?)*]
                        $($field [$($versions $(, tag $tag)?)?])*);
                    Ok(Self { $($field),* })
                }

                async fn decode_in_slices(
                    r: &mut $crate::wire::Reader<'a>,
                    version: i16,
                    slices: &mut $crate::wire::Slices,
                ) -> Result<Self, $crate::wire::WireError> {
                    $(
                        $crate::wire::schema::structures!(@decode
                            (<$type as $crate::wire::Wire<'a>>::decode_in_slices(r, version, slices)
                                .await?)
                            ($crate::wire::types::decode_present_in_slices(r, version, slices)
                                .await?)
                            version $field
                            [$($versions $(, nullable $nullable)? $(, tag $tag)?)?] $($default)?);
                    )*
                    $crate::wire::schema::structures!(@decode_tags r version [$($($($tag)?)?)*]
                        $($field [$($versions $(, tag $tag)?)?])*);
                    Ok(Self { $($field),* })
                }

                #[inline]
                fn encode(&self, w: &mut $crate::wire::Writer, version: i16) {
                    $(
                        $crate::wire::schema::structures!(@encode
                            ($crate::wire::Wire::encode(&self.$field, w, version))
                            w version (self.$field)
                            [$($versions $(, nullable $nullable)? $(, tag $tag)?)?]);
                    )*
                    $crate::wire::schema::structures!(@encode_tags w version [$($($($tag)?)?)*]
                        $((self.$field) ($($default)?) [$($versions $(, tag $tag)?)?])*);
                }

                async fn encode_in_slices(
                    self,
                    w: &mut $crate::wire::Writer,
                    version: i16,
                    slices: &mut $crate::wire::Slices,
                ) {
                    $(
                        $crate::wire::schema::structures!(@encode
                            ($crate::wire::Wire::encode_in_slices(self.$field, w, version, slices).await)
                            w version (self.$field)
                            [$($versions $(, nullable $nullable)? $(, tag $tag)?)?]);
                    )*
                    $crate::wire::schema::structures!(@encode_tags w version [$($($($tag)?)?)*]
                        $((self.$field) ($($default)?) [$($versions $(, tag $tag)?)?])*);
                }
            }

            impl<'a $($(, $parameter: $crate::wire::Wire<'a>)?)?> $crate::wire::Nullable<'a>
                for $name $(<$life $(, $parameter)?>)?
            {
            }

            #[cfg(test)]
            impl $(<$life $(, $parameter: $crate::wire::round_trip::Sample + Default)?>)?
                $crate::wire::round_trip::Sample for $name $(<$life $(, $parameter)?>)?
            {
                fn sample(&self, seed: &mut u8, version: i16) -> Self {
                    Self {
                        $($field: $crate::wire::schema::structures!(@if_in version
                            (self.$field.sample(seed, version)) (self.$field.clone())
                            [$($versions)?]),)*
                    }
                }

                fn sayable(&self, version: i16) -> Self {
                    Self {
                        $($field: $crate::wire::schema::structures!(@sayable version (self.$field)
                            [$($versions $(, nullable $nullable)?)?]),)*
                    }
                }
            }
        )*

        #[cfg(test)]
        mod round_trip {
            #[test]
            fn every_version_reads_back_what_it_wrote() {
                let flexible: &[i16] = &[$($flexible)?];
                $($crate::wire::round_trip::check::<super::$name $(<'static
                    $(, $crate::wire::schema::structures!(@any $parameter))?>)?>(
                    $min..=$max,
                    flexible,
                );)*
            }
        }
    };

    // What the test puts in the place of a type parameter.
    (@any $parameter:ident) => { i32 };

    (@default) => { Default::default() };
    (@default $default:expr) => { $default };

    // One of two expressions: the field is in this version, or it is not.
    (@if_in $version:ident ($yes:expr) ($no:expr) []) => { $yes };
    (@if_in $version:ident ($yes:expr) ($no:expr) [$versions:pat]) => {
        if matches!($version, $versions) { $yes } else { $no }
    };

    // A variable for a field: what `$read` reads (`$read_present` where null cannot be said), or the default
    // where there is nothing to read (yet).
    (@decode ($read:expr) ($read_present:expr) $version:ident $field:ident [] $($default:expr)?) => {
        let $field = $read;
    };
    (@decode ($read:expr) ($read_present:expr) $version:ident $field:ident [$versions:pat] $($default:expr)?) => {
        let $field = if matches!($version, $versions) {
            $read
        } else {
            $crate::wire::schema::structures!(@default $($default)?)
        };
    };
    (@decode ($read:expr) ($read_present:expr) $version:ident $field:ident [$versions:pat, nullable $nullable:pat]
        $($default:expr)?) => {
        let $field = if !matches!($version, $versions) {
            $crate::wire::schema::structures!(@default $($default)?)
        } else if matches!($version, $nullable) {
            $read
        } else {
            $read_present
        };
    };
    (@decode ($read:expr) ($read_present:expr) $version:ident $field:ident
        [$versions:pat $(, nullable $nullable:pat)?, tag $tag:literal] $($default:expr)?) => {
        let mut $field = $crate::wire::schema::structures!(@default $($default)?);
    };

    (@decode_tags $r:ident $version:ident [] $($field:ident $in:tt)*) => {
        $r.skip_tagged_fields()?;
    };
    (@decode_tags $r:ident $version:ident [$($tags:literal)+] $($field:ident $in:tt)*) => {
        $r.tagged_fields(|tag, r| {
            $($crate::wire::schema::structures!(@decode_tag tag r $version $field $in);)*
            Ok(())
        })?;
    };
    (@decode_tag $tag:ident $r:ident $version:ident $field:ident
        [$versions:pat, tag $number:literal]) => {
        if $tag == $number && matches!($version, $versions) {
            $field = $crate::wire::Wire::decode($r, $version)?;
        }
    };
    (@decode_tag $tag:ident $r:ident $version:ident $field:ident [$($versions:pat)?]) => {};

    (@encode ($write:expr) $w:ident $version:ident ($value:expr) []) => {
        $write;
    };
    (@encode ($write:expr) $w:ident $version:ident ($value:expr) [$versions:pat]) => {
        if matches!($version, $versions) {
            $write;
        }
    };
    (@encode ($write:expr) $w:ident $version:ident ($value:expr)
        [$versions:pat, nullable $nullable:pat]) => {
        if matches!($version, $versions) {
            if matches!($version, $nullable) {
                $write;
            } else {
                $crate::wire::types::encode_never_null(&$value, $w, $version);
            }
        }
    };
    (@encode ($write:expr) $w:ident $version:ident ($value:expr)
        [$versions:pat $(, nullable $nullable:pat)?, tag $tag:literal]) => {};

    (@encode_tags $w:ident $version:ident [] $(($value:expr) $default:tt $in:tt)*) => {
        $w.no_tagged_fields();
    };
    (@encode_tags $w:ident $version:ident [$($tags:literal)+]
        $(($value:expr) $default:tt $in:tt)*) => {
        $w.tagged_fields(|fields| {
            $($crate::wire::schema::structures!(@encode_tag fields $version ($value) $default $in);)*
        });
    };
    (@encode_tag $fields:ident $version:ident ($value:expr) ($($default:expr)?)
        [$versions:pat, tag $number:literal]) => {
        let default = $crate::wire::schema::structures!(@default $($default)?);
        if matches!($version, $versions) && $crate::wire::types::differs(&$value, &default) {
            $fields.field($number, |w| $crate::wire::Wire::encode(&$value, w, $version));
        }
    };
    (@encode_tag $fields:ident $version:ident ($value:expr) $default:tt [$($versions:pat)?]) => {};

    (@sayable $version:ident ($value:expr) [$versions:pat, nullable $nullable:pat]) => {
        match $version {
            $nullable => $value.clone(),
            $versions => Some($value.clone().unwrap_or_default()),
            _ => $value.clone(),
        }
    };
    (@sayable $version:ident ($value:expr) [$($versions:pat)?]) => { $value.sayable($version) };
}

pub(crate) use structures;

#[cfg(test)]
mod tests {
    use crate::wire::{Reader, Wire, WireError, Writer};

    const FIRST_FLEXIBLE: i16 = 2;

    structures! {
        versions 0..=3, flexible 2..;

        Topic<'a> {
            name: &'a str,
            leader_epoch: i32 [1..] = -1,
            note: Option<&'a str> [0.., nullable 2..],
            is_internal: bool [2.., tag 0],
            partitions: Vec<Partition>,
            cursor: Option<Partition> [3..],
        }

        #[derive(Copy)]
        Partition {
            index: i8,
        }
    }

    fn topic() -> Topic<'static> {
        Topic {
            name: "t",
            leader_epoch: 5,
            note: Some("n"),
            is_internal: true,
            partitions: vec![Partition { index: 7 }],
            cursor: Some(Partition { index: 9 }),
        }
    }

    fn encoded(topic: &Topic, version: i16) -> Vec<u8> {
        let mut w = Writer::new(version >= FIRST_FLEXIBLE);
        topic.encode(&mut w, version);
        w.into_vec().unwrap()
    }

    fn decoded(frame: &[u8], version: i16) -> Result<Topic<'_>, WireError> {
        Topic::decode(&mut Reader::over(frame, version >= FIRST_FLEXIBLE), version)
    }

    /// Laid out by hand from the declaration.
    const FRAMES: [&[u8]; 4] = [
        b"\0\x01t\0\x01n\0\0\0\x01\x07",
        b"\0\x01t\0\0\0\x05\0\x01n\0\0\0\x01\x07",
        b"\x02t\0\0\0\x05\x02n\x02\x07\0\x01\0\x01\x01",
        b"\x02t\0\0\0\x05\x02n\x02\x07\0\x01\x09\0\x01\0\x01\x01",
    ];

    #[test]
    fn a_version_has_its_fields_and_gives_the_others_their_defaults() {
        for (version, frame) in (0..).zip(FRAMES) {
            assert_eq!(encoded(&topic(), version), frame, "v{version}");
            let expected = Topic {
                leader_epoch: if version >= 1 { 5 } else { -1 },
                is_internal: version >= 2,
                cursor: topic().cursor.filter(|_| version >= 3),
                ..topic()
            };
            assert_eq!(decoded(frame, version), Ok(expected), "v{version}");
        }
    }

    #[test]
    fn null_is_the_empty_string_where_a_version_has_no_null() {
        let nameless = Topic::default();
        assert_eq!(encoded(&nameless, 0), b"\0\0\0\0\0\0\0\0");
        assert_eq!(decoded(b"\0\0\0\0\0\0\0\0", 0).unwrap().note, Some(""));
        assert_eq!(
            decoded(b"\0\0\xff\xff\0\0\0\0", 0),
            Err(WireError::UnexpectedNull)
        );
        assert_eq!(encoded(&nameless, 2), b"\x01\xff\xff\xff\xff\0\x01\0");
        assert_eq!(decoded(b"\x01\xff\xff\xff\xff\0\x01\0", 2), Ok(nameless));
    }

    #[test]
    fn a_null_structure_is_one_byte_and_unknown_tags_are_skipped() {
        let frame = b"\x01\xff\xff\xff\xff\0\x01\xff\x02\0\x01\x01\x63\x02??";
        let expected = Topic {
            is_internal: true,
            ..Topic::default()
        };
        assert_eq!(decoded(frame, 3), Ok(expected));
    }
}
