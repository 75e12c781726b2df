// Package wirejson writes the JSON text of an object straight from its protobuf encoding, byte for byte as encoding/json writes the
// decoded object.
//
// Objects are kept in protobuf and most clients read JSON. Decoding an object to encode it again costs some twenty times what
// sending it in protobuf does, and leaves as much garbage. The generated types of k8s.io/api say in their struct tags what each
// field is called in both forms; a Plan is what those tags say of one type and all that it holds, and walking the bytes along it
// needs no object in between.
//
//	plans := wirejson.New()
//	plan, err := plans.For(reflect.TypeFor[corev1.Pod]())
//	text, err := plan.AppendTyped(nil, "v1", "Pod", frame.Object())
//
// Whatever is unusual — groups, packed lists, a field in another wire type than its own, JSON inside of an object that is not
// compact — is left to the types' own decoders: for a part of the object where that is possible, otherwise with ErrUnusual, upon
// which the caller decodes the object and encodes that.
package wirejson

import "errors"

// ErrUnusual means that the bytes are not as the types' own encoders write them, and perhaps no object at all.
var ErrUnusual = errors.New("wirejson: unusual encoding")

// maxDepth bounds the nesting of messages that are walked. Built-in kinds have less than 20 levels but for the schemas of custom
// resources, which people write.
const maxDepth = 200
