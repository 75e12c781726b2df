package customresource

import (
	"reflect"
	"testing"
)

// Publishing a schema leaves it as it was: objects are read by it at the same time, and unfolding what is an integer or a string, and
// lessening what version 2 cannot say, changes a schema in place.
func TestPublishedIsACopy(t *testing.T) {
	v := made(t, nil).storage
	s, err := v.schema()
	if err != nil {
		t.Fatal(err)
	}
	before := s.DeepCopy()
	for _, v2 := range []bool{false, true} {
		if _, err := v.published(v2); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(s, before) {
			t.Errorf("publishing has changed the schema (version 2: %v)", v2)
		}
	}
}
