package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"bareboat.dev/integration/host"
)

// goBench runs a module's own Go benchmarks and turns what they report into rows. With a metric named, only benchmarks that report it
// are listed.
func goBench(module, packages, metric, aim string) func(*Env) ([]Row, error) {
	return func(e *Env) ([]Row, error) {
		cmd := exec.Command("go", "test", "-run", "^$", "-bench", ".", "-benchtime", "2s", "-timeout", "10m", packages)
		cmd.Dir = filepath.Join(host.Root(), module)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("go test -bench in %s: %w\n%s", module, err, out)
		}
		var rows []Row
		pkg := module
		for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
			if path, ok := strings.CutPrefix(sc.Text(), "pkg: bareboat.dev/"); ok {
				pkg = path
			}
			if r, ok := parseBench(pkg, sc.Text(), metric); ok {
				r.Aim = aim
				rows = append(rows, r)
			}
		}
		return rows, nil
	}
}

// parseBench reads a line such as "BenchmarkPlan/5000-2  10  1234 ns/op  21000 decisions/s".
func parseBench(pkg, line, metric string) (Row, bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
		return Row{}, false
	}
	name := strings.TrimPrefix(fields[0], "Benchmark")
	if i := strings.LastIndex(name, "-"); i > 0 {
		name = name[:i]
	}
	r := Row{Path: pkg + ": " + name}
	var figures []string
	found := metric == ""
	for i := 2; i+1 < len(fields); i += 2 {
		value, unit := fields[i], fields[i+1]
		if unit == "ratio" || strings.HasSuffix(unit, "-ratio") {
			r.Ratio = value
			continue
		}
		found = found || unit == metric
		figures = append(figures, value+" "+unit)
	}
	r.Subject = strings.Join(figures, ", ")
	return r, found
}
