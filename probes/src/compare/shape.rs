//! What JSON values at one place have in common: their types, the keys of objects, the elements of arrays. A value that is
//! noise must still look like those that were seen.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::extent::Extent;

/// What all values that were included have in common.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    null: bool,
    boolean: bool,
    number: bool,
    /// The sizes of strings, in bytes.
    string: Option<Extent>,
    array: Option<Box<ArrayShape>>,
    object: Option<Box<ObjectShape>>,
}

#[derive(Debug, Clone)]
struct ArrayShape {
    lengths: Extent,
    element: Shape,
}

#[derive(Debug, Clone)]
struct ObjectShape {
    members: BTreeMap<String, Shape>,
    /// The keys that all have.
    required: BTreeSet<String>,
    /// Of values behind keys that only some have; where there are such, other keys are as good.
    other: Option<Shape>,
}

impl Shape {
    pub(super) fn of(value: &Value) -> Self {
        let mut shape = Self::default();
        shape.include(value);
        shape
    }

    /// Takes in another value.
    pub(super) fn include(&mut self, value: &Value) {
        match value {
            Value::Null => self.null = true,
            Value::Bool(_) => self.boolean = true,
            Value::Number(_) => self.number = true,
            Value::String(text) => self.string.get_or_insert(Extent::of(text.len())).include(text.len()),
            Value::Array(elements) => {
                let new = || Box::new(ArrayShape { lengths: Extent::of(elements.len()), element: Self::default() });
                let array = self.array.get_or_insert_with(new);
                array.lengths.include(elements.len());
                elements.iter().for_each(|element| array.element.include(element));
            }
            Value::Object(members) => match &mut self.object {
                None => {
                    let shapes = members.iter().map(|(key, member)| (key.clone(), Self::of(member))).collect();
                    let required = members.keys().cloned().collect();
                    self.object = Some(Box::new(ObjectShape { members: shapes, required, other: None }));
                }
                Some(object) => object.include(members),
            },
        }
    }

    /// Takes in all that another one accepts.
    fn join(&mut self, other: Self) {
        self.null |= other.null;
        self.boolean |= other.boolean;
        self.number |= other.number;
        if let Some(sizes) = other.string {
            self.string.get_or_insert(sizes).join(sizes);
        }
        match (&mut self.array, other.array) {
            (Some(array), Some(other)) => {
                array.lengths.join(other.lengths);
                array.element.join(other.element);
            }
            (array, Some(other)) => *array = Some(other),
            (_, None) => {}
        }
        match (&mut self.object, other.object) {
            (Some(object), Some(other)) => object.join(*other),
            (object, Some(other)) => *object = Some(other),
            (_, None) => {}
        }
    }

    /// Whether a value looks like those that were included.
    pub(super) fn accepts(&self, value: &Value) -> bool {
        match value {
            Value::Null => self.null,
            Value::Bool(_) => self.boolean,
            Value::Number(_) => self.number,
            Value::String(text) => self.string.is_some_and(|sizes| sizes.accepts(text.len())),
            Value::Array(elements) => self.array.as_ref().is_some_and(|array| {
                array.lengths.accepts(elements.len()) && elements.iter().all(|element| array.element.accepts(element))
            }),
            Value::Object(members) => self.object.as_ref().is_some_and(|object| object.accepts(members)),
        }
    }
}

impl ObjectShape {
    fn include(&mut self, members: &serde_json::Map<String, Value>) {
        for key in self.required.clone() {
            if !members.contains_key(&key) {
                self.make_optional(&key);
            }
        }
        for (key, member) in members {
            match self.members.get_mut(key) {
                Some(shape) => shape.include(member),
                None => {
                    self.members.insert(key.clone(), Shape::of(member));
                    self.make_optional(key);
                }
            }
        }
    }

    fn join(&mut self, other: Self) {
        for key in self.required.symmetric_difference(&other.required).cloned().collect::<Vec<_>>() {
            self.required.remove(&key);
        }
        for (key, shape) in other.members {
            self.members.entry(key).or_default().join(shape);
        }
        if let Some(shape) = other.other {
            self.other.get_or_insert_default().join(shape);
        }
        let optional: Vec<String> = self.members.keys().filter(|key| !self.required.contains(*key)).cloned().collect();
        optional.iter().for_each(|key| self.make_optional(key));
    }

    /// Notes that a key isn't always there.
    fn make_optional(&mut self, key: &str) {
        self.required.remove(key);
        if let Some(shape) = self.members.get(key).cloned() {
            self.other.get_or_insert_default().join(shape);
        }
    }

    fn accepts(&self, members: &serde_json::Map<String, Value>) -> bool {
        self.required.iter().all(|key| members.contains_key(key))
            && members.iter().all(|(key, member)| match (self.members.get(key), &self.other) {
                (Some(shape), _) if shape.accepts(member) => true,
                (_, Some(other)) if !self.required.contains(key) => other.accepts(member),
                _ => false,
            })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_must_look_like_those_that_were_seen() {
        for (samples, got, accepted) in [
            (vec![json!(1)], json!(2.5), true),
            (vec![json!(1)], json!("1"), false),
            (vec![json!(1)], json!(null), false),
            (vec![json!(1), json!(null)], json!(null), true),
            (vec![json!(true)], json!(false), true),
            (vec![json!("abcd")], json!("x"), true),
            (vec![json!("abcd")], json!(""), false),
            (vec![json!([1, 2, 3])], json!([4]), true),
            (vec![json!([1, 2, 3])], json!([]), false),
            (vec![json!([1]), json!([])], json!([]), true),
            (vec![json!([1, "a"])], json!(["b"]), true),
            (vec![json!([1, 2])], json!([1, "a"]), false),
            (vec![json!({"a": 1})], json!({"a": 2}), true),
            (vec![json!({"a": 1})], json!({}), false),
            (vec![json!({"a": 1})], json!({"a": 1, "b": 1}), false),
            (vec![json!({"a": 1}), json!({"a": 1, "b": "x"})], json!({"a": 1}), true),
            (vec![json!({"a": 1, "k1": [1]}), json!({"a": 1, "k2": [2]})], json!({"a": 1, "k3": [3]}), true),
            (vec![json!({"a": 1, "k1": [1]}), json!({"a": 1, "k2": [2]})], json!({"a": 1, "k3": "x"}), false),
            (vec![json!({"a": 1, "k1": [1]}), json!({"a": 1, "k2": [2]})], json!({"k3": [3]}), false),
            (vec![json!([{"a": 1}, {"a": 1, "b": 1}])], json!([{"a": 1}, {"a": 1}]), true),
            (vec![json!([{"a": 1}, {"a": 1, "b": 1}])], json!([{"b": 1}]), false),
        ] {
            let mut shape = Shape::default();
            samples.iter().for_each(|sample| shape.include(sample));
            assert!(samples.iter().all(|sample| shape.accepts(sample)), "{samples:?}");
            assert_eq!(shape.accepts(&got), accepted, "{samples:?} {got}");
        }
        assert!(!Shape::default().accepts(&json!(null)));
    }
}
