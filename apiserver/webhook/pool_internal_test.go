package webhook

import (
	"fmt"
	"testing"
)

// TestPoolsAreBounded shows that ever new targets do not make ever more pools, and that the one used last stays.
func TestPoolsAreBounded(t *testing.T) {
	c := New(nil)
	kept := Target{URL: "https://kept"}
	address, err := kept.address()
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.pool(&kept, address)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxTargets {
		other := Target{URL: fmt.Sprintf("https://host-%d", i)}
		u, err := other.address()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.pool(&other, u); err != nil {
			t.Fatal(err)
		}
		if again, err := c.pool(&kept, address); err != nil || again != first {
			t.Fatalf("after %d targets: %v, another pool", i, err)
		}
	}
	if len(c.pools) > maxTargets {
		t.Errorf("%d pools, want at most %d", len(c.pools), maxTargets)
	}
}
