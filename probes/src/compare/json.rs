//! Comparison of two JSON values, and what is learnt of their noise. Places are JSON pointers (RFC 6901).
//!
//! The order of an object's keys means nothing. Strings are compared as [texts](super::text), so that a time in a long
//! message hides no more than the time. Everything else that was seen to differ must keep its [shape](Shape):
//!
//! * numbers, booleans and values of another type: a value like those that were seen;
//! * keys that only one of two answers has (dictionaries by random ids): other such keys, with values like those;
//! * arrays of another length: elements like those;
//! * arrays with the same elements in another order: these elements in any order; with other digits, only if they were seen so.
//!
//! Nesting is bounded by the parser, at 128.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value};

use super::align::{Shuffled, shuffled};
use super::extent::Extent;
use super::shape::Shape;
use super::text::{Text, TextMask};
use super::units::{exact, skeleton};

/// The noise of one document; places are pointers.
#[derive(Debug, Clone, Default)]
pub(super) struct JsonMask {
    texts: BTreeMap<String, TextMask>,
    values: BTreeMap<String, Shape>,
    members: BTreeMap<String, MembersMask>,
    any_order: BTreeMap<String, Shuffled>,
}

/// The members that not all answers have.
#[derive(Debug, Clone)]
struct MembersMask {
    keys: BTreeSet<String>,
    value: Shape,
    counts: Extent,
}

/// Something in which two documents differ.
pub(super) struct JsonDifference {
    pub(super) pointer: String,
    pub(super) expected: String,
    pub(super) got: String,
    pub(super) is_noise: bool,
}

/// How two arrays relate.
enum Arrays {
    /// Their elements are compared one by one.
    Pairs,
    Shuffled(Shuffled),
    OtherLength,
}

impl JsonMask {
    /// Learns that `again` is as good as `expected`.
    pub(super) fn learn(&mut self, expected: &Value, again: &Value) {
        self.learn_at(&mut String::new(), expected, again);
    }

    fn learn_at(&mut self, pointer: &mut String, expected: &Value, again: &Value) {
        match (expected, again) {
            _ if expected == again => {}
            (Value::String(left), Value::String(right)) => match (Text::new(left, false), Text::new(right, false)) {
                (Some(left), Some(right)) => self.texts.entry(pointer.clone()).or_default().learn(&left, &right),
                _ => self.learn_shape(pointer, expected, again),
            },
            (Value::Array(left), Value::Array(right)) => match relation(left, right) {
                Arrays::Pairs => {
                    for (at, (left, right)) in left.iter().zip(right).enumerate() {
                        within(pointer, &at.to_string(), |pointer| self.learn_at(pointer, left, right));
                    }
                }
                Arrays::Shuffled(shuffled) => {
                    let known = self.any_order.entry(pointer.clone()).or_insert(shuffled);
                    *known = shuffled.max(*known);
                }
                Arrays::OtherLength => self.learn_shape(pointer, expected, again),
            },
            (Value::Object(left), Value::Object(right)) => {
                self.learn_members(pointer, left, right);
                for (key, left, right) in common(left, right) {
                    within(pointer, key, |pointer| self.learn_at(pointer, left, right));
                }
            }
            _ => self.learn_shape(pointer, expected, again),
        }
    }

    fn learn_shape(&mut self, pointer: &str, expected: &Value, again: &Value) {
        let shape = self.values.entry(pointer.to_owned()).or_insert_with(|| Shape::of(expected));
        shape.include(again);
    }

    fn learn_members(&mut self, pointer: &str, expected: &Map<String, Value>, again: &Map<String, Value>) {
        let others: Vec<_> = only_in(expected, again).chain(only_in(again, expected)).collect();
        if others.is_empty() {
            return;
        }
        let new = || MembersMask { keys: BTreeSet::new(), value: Shape::default(), counts: Extent::of(expected.len()) };
        let mask = self.members.entry(pointer.to_owned()).or_insert_with(new);
        mask.counts.include(again.len());
        for (key, value) in others {
            mask.keys.insert(key.clone());
            mask.value.include(value);
        }
    }

    /// How `got` differs from `expected`.
    pub(super) fn judge(&self, expected: &Value, got: &Value) -> Vec<JsonDifference> {
        let mut differences = vec![];
        self.judge_at(&mut String::new(), expected, got, &mut differences);
        differences
    }

    fn judge_at(&self, pointer: &mut String, expected: &Value, got: &Value, differences: &mut Vec<JsonDifference>) {
        if expected == got {
            return;
        }
        let whole = |is_noise| JsonDifference {
            pointer: pointer.clone(),
            expected: expected.to_string(),
            got: got.to_string(),
            is_noise,
        };
        if self.values.get(pointer.as_str()).is_some_and(|shape| shape.accepts(got)) {
            return differences.push(whole(true));
        }
        match (expected, got) {
            (Value::String(left), Value::String(right)) => match (Text::new(left, false), Text::new(right, false)) {
                (Some(left), Some(right)) => {
                    let none = TextMask::default();
                    let found = self.texts.get(pointer.as_str()).unwrap_or(&none).judge(&left, &right);
                    differences.extend(found.into_iter().map(|found| JsonDifference {
                        pointer: pointer.clone(),
                        expected: found.expected,
                        got: found.got,
                        is_noise: found.is_noise,
                    }));
                }
                _ => differences.push(whole(false)),
            },
            (Value::Array(left), Value::Array(right)) => match relation(left, right) {
                Arrays::Pairs => {
                    for (at, (left, right)) in left.iter().zip(right).enumerate() {
                        within(pointer, &at.to_string(), |pointer| self.judge_at(pointer, left, right, differences));
                    }
                }
                Arrays::Shuffled(shuffled) => {
                    differences.push(whole(self.any_order.get(pointer.as_str()) >= Some(&shuffled)));
                }
                Arrays::OtherLength => differences.push(whole(false)),
            },
            (Value::Object(left), Value::Object(right)) => {
                self.judge_members(pointer, left, right, differences);
                for (key, left, right) in common(left, right) {
                    within(pointer, key, |pointer| self.judge_at(pointer, left, right, differences));
                }
            }
            _ => differences.push(whole(false)),
        }
    }

    fn judge_members(
        &self,
        pointer: &mut String,
        expected: &Map<String, Value>,
        got: &Map<String, Value>,
        differences: &mut Vec<JsonDifference>,
    ) {
        let mask = self.members.get(pointer.as_str()).filter(|mask| mask.counts.accepts(got.len()));
        let mut push = |key: &String, expected: String, got: String, is_noise| {
            within(pointer, key, |pointer| {
                differences.push(JsonDifference { pointer: pointer.clone(), expected, got, is_noise });
            });
        };
        for (key, value) in only_in(expected, got) {
            let is_noise = mask.is_some_and(|mask| mask.keys.contains(key));
            push(key, value.to_string(), String::new(), is_noise);
        }
        for (key, value) in only_in(got, expected) {
            let is_noise = mask.is_some_and(|mask| mask.value.accepts(value));
            push(key, String::new(), format!("{}: {value}", Value::from(key.as_str())), is_noise);
        }
    }

    /// Where it hides more than words and numbers.
    pub(super) fn coarse(&self) -> impl Iterator<Item = String> {
        let texts = self.texts.iter();
        let texts = texts.flat_map(|(pointer, mask)| mask.coarse().map(move |words| format!("`{pointer}`: {words}")));
        let values = self.values.keys().map(|pointer| format!("`{pointer}`: only the shape of the value is compared"));
        let members = self.members.keys().map(|pointer| format!("`{pointer}`: not all keys are always there"));
        let orders = self.any_order.keys().map(|pointer| format!("`{pointer}`: the elements come in any order"));
        texts.chain(values).chain(members).chain(orders)
    }
}

/// Does something with the pointer to a member or an element.
fn within(pointer: &mut String, key: &str, act: impl FnOnce(&mut String)) {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
    act(pointer);
    pointer.truncate(length);
}

fn common<'a>(
    left: &'a Map<String, Value>,
    right: &'a Map<String, Value>,
) -> impl Iterator<Item = (&'a String, &'a Value, &'a Value)> {
    left.iter().filter_map(|(key, value)| Some((key, value, right.get(key)?)))
}

fn only_in<'a>(left: &'a Map<String, Value>, right: &'a Map<String, Value>) -> impl Iterator<Item = (&'a String, &'a Value)> {
    left.iter().filter(|(key, _)| !right.contains_key(*key))
}

fn relation(left: &[Value], right: &[Value]) -> Arrays {
    if left.len() != right.len() {
        return Arrays::OtherLength;
    }
    let digests =
        |elements: &[Value], of_text: fn(&str) -> u64| elements.iter().map(|it| digest(it, of_text)).collect::<Vec<u64>>();
    let exactly = || [digests(left, exact), digests(right, exact)];
    shuffled(digests(left, skeleton), digests(right, skeleton), exactly).map_or(Arrays::Pairs, Arrays::Shuffled)
}

/// A digest, with strings and numbers as the words of a text.
fn digest(value: &Value, of_text: fn(&str) -> u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    std::mem::discriminant(value).hash(&mut hasher);
    match value {
        Value::Null => {}
        Value::Bool(value) => value.hash(&mut hasher),
        Value::Number(number) => of_text(&number.to_string()).hash(&mut hasher),
        Value::String(text) => of_text(text).hash(&mut hasher),
        Value::Array(elements) => elements.iter().for_each(|element| digest(element, of_text).hash(&mut hasher)),
        Value::Object(members) => {
            // In the order of the keys.
            let sorted: BTreeMap<&String, &Value> = members.iter().collect();
            sorted.into_iter().for_each(|(key, member)| (key, digest(member, of_text)).hash(&mut hasher));
        }
    }
    hasher.finish()
}
