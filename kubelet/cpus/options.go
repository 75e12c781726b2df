package cpus

import (
	"errors"
	"fmt"
	"strconv"

	"bareboat.dev/kubelet/numa"
)

// Options are those of the static policy.
type Options struct {
	numa.CPUOptions
	// StrictReservation: strict-cpu-reservation. Nobody runs on reserved CPUs, those that share the others included.
	StrictReservation bool
}

// ParseOptions reads options as --cpu-manager-policy-options gives them, all of which are true or false.
func ParseOptions(given map[string]string) (o Options, err error) {
	known := map[string]*bool{
		"full-pcpus-only": &o.FullCores, "distribute-cpus-across-numa": &o.AcrossNodes, "align-by-socket": &o.BySocket,
		"distribute-cpus-across-cores": &o.AcrossCores, "strict-cpu-reservation": &o.StrictReservation, "prefer-align-cpus-by-uncorecache": &o.ByCache,
	}
	for name, value := range given {
		at := known[name]
		if at == nil {
			return o, fmt.Errorf("unknown CPU Manager Policy option: %q", name)
		}
		if *at, err = strconv.ParseBool(value); err != nil {
			return o, fmt.Errorf("bad value for option %q: %w", name, err)
		}
	}
	const spread = "distribute-cpus-across-cores"
	for _, pair := range []struct {
		both bool
		a, b string
	}{
		{o.FullCores && o.AcrossCores, "full-pcpus-only", spread},
		{o.AcrossNodes && o.AcrossCores, "distribute-cpus-across-numa", spread},
		{o.ByCache && o.AcrossCores, "prefer-align-cpus-by-uncorecache", spread},
		{o.ByCache && o.AcrossNodes, "prefer-align-cpus-by-uncorecache", "distribute-cpus-across-numa"},
	} {
		if pair.both {
			err = errors.Join(err, fmt.Errorf("static policy options %s and %s can not be used at the same time", pair.a, pair.b))
		}
	}
	return o, err
}
