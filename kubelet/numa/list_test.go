package numa

import "testing"

// TestList shows lists of CPUs and nodes, read and written, and what is no list.
func TestList(t *testing.T) {
	for in, want := range map[string]string{"": "", "0": "0", "0-3,8": "0-3,8", "3,2,1": "1-3", "1,1": "1", " 5-6\n": "5-6"} {
		if ids, err := ParseList(in); err != nil || FormatList(ids) != want {
			t.Errorf("%q: %v, %v", in, ids, err)
		}
	}
	for _, in := range []string{"a", "1-", "3-1", "-1", "0-99999"} {
		if ids, err := ParseList(in); err == nil {
			t.Errorf("%q is read as %v", in, ids)
		}
	}
}
