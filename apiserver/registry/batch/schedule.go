package batch

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// cronField is one of a crontab line's five fields.
type cronField struct {
	low, high uint
	names     []string // of low, low+1, …
}

// parseSchedule reports what is wrong with a schedule: a crontab line of five fields, or a descriptor such as "@daily" or
// "@every 1h". The wording is that of github.com/robfig/cron, which speaks through Kubernetes here.
func parseSchedule(schedule string) error {
	if strings.HasPrefix(schedule, "@") {
		return parseDescriptor(schedule)
	}
	fields := strings.Fields(schedule)
	if len(fields) != 5 {
		return fmt.Errorf("expected exactly 5 fields, found %d: %s", len(fields), fields)
	}
	months := []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	days := []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
	for i, f := range []cronField{{0, 59, nil}, {0, 23, nil}, {1, 31, nil}, {1, 12, months}, {0, 6, days}} {
		for expr := range strings.FieldsFuncSeq(fields[i], func(r rune) bool { return r == ',' }) {
			if err := f.parse(expr); err != nil {
				return err
			}
		}
	}
	return nil
}

func parseDescriptor(d string) error {
	switch d {
	case "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly":
		return nil
	}
	if every, ok := strings.CutPrefix(d, "@every "); ok {
		if _, err := time.ParseDuration(every); err != nil {
			return fmt.Errorf("failed to parse duration %s: %w", d, err)
		}
		return nil
	}
	return fmt.Errorf("unrecognized descriptor: %s", d)
}

// parse reads one expression: number | number "-" number [ "/" number ] | "*" [ "/" number ].
func (f cronField) parse(expr string) error {
	span, step, hasStep := strings.Cut(expr, "/")
	low, high, hasHigh := strings.Cut(span, "-")
	first, last := f.low, f.high
	if low != "*" && low != "?" {
		var err error
		if first, err = f.number(low); err != nil {
			return err
		}
		switch {
		case strings.Contains(high, "-"):
			return fmt.Errorf("too many hyphens: %s", expr)
		case hasHigh:
			if last, err = f.number(high); err != nil {
				return err
			}
		case !hasStep:
			last = first
		}
	}
	n := uint(1)
	if hasStep {
		if strings.Contains(step, "/") {
			return fmt.Errorf("too many slashes: %s", expr)
		}
		var err error
		if n, err = atoi(step); err != nil {
			return err
		}
	}
	switch {
	case first < f.low:
		return fmt.Errorf("beginning of range (%d) below minimum (%d): %s", first, f.low, expr)
	case last > f.high:
		return fmt.Errorf("end of range (%d) above maximum (%d): %s", last, f.high, expr)
	case first > last:
		return fmt.Errorf("beginning of range (%d) beyond end of range (%d): %s", first, last, expr)
	case n == 0:
		return fmt.Errorf("step of range should be a positive number: %s", expr)
	}
	return nil
}

func (f cronField) number(s string) (uint, error) {
	for i, name := range f.names {
		if strings.EqualFold(s, name) {
			return f.low + uint(i), nil
		}
	}
	return atoi(s)
}

func atoi(s string) (uint, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("failed to parse int from %s: %w", s, err)
	}
	if n < 0 || n > math.MaxInt32 {
		return 0, fmt.Errorf("negative number (%d) not allowed: %s", n, s)
	}
	return uint(n), nil
}
