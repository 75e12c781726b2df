package cronjob

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Schedule is when something happens again and again: a crontab line of five fields, or a fixed distance.
type Schedule struct {
	minute, hour, day, month, weekday uint64 // bit n is set if n fits
	// anyDay and anyWeekday are set for "*": with one of the two restricted only that counts, with both, either.
	anyDay, anyWeekday bool
	every              time.Duration
}

// maxYears bounds the search for the next time: the 29th of February on a given weekday comes within 28 years, 40 across
// a century that is no leap year.
const maxYears = 40

type field struct {
	name       string
	low, high  int
	words      []string
	wordOffset int
}

var descriptors = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

// Parse reads a schedule: "*/5 * * * *" with lists, ranges, steps and English names of months and weekdays, a descriptor as
// "@daily", or "@every 1h30m".
func Parse(text string) (*Schedule, error) {
	text = strings.TrimSpace(text)
	if d, ok := strings.CutPrefix(text, "@every "); ok {
		every, err := time.ParseDuration(d)
		if err != nil {
			return nil, fmt.Errorf("schedule %q: %w", text, err)
		}
		return &Schedule{every: max(time.Second, every.Truncate(time.Second))}, nil
	}
	if line, ok := descriptors[text]; ok {
		text = line
	}
	parts := strings.Fields(text)
	if len(parts) != 5 {
		return nil, fmt.Errorf("schedule %q: want five fields, or a descriptor like @daily", text)
	}
	months := []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	days := []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
	s := &Schedule{anyDay: isAny(parts[2]), anyWeekday: isAny(parts[4])}
	for i, f := range []struct {
		field
		bits *uint64
	}{
		{field{"minute", 0, 59, nil, 0}, &s.minute}, {field{"hour", 0, 23, nil, 0}, &s.hour}, {field{"day", 1, 31, nil, 0}, &s.day},
		{field{"month", 1, 12, months, 1}, &s.month}, {field{"weekday", 0, 7, days, 0}, &s.weekday},
	} {
		bits, err := f.parse(parts[i])
		if err != nil {
			return nil, fmt.Errorf("schedule %q: %w", text, err)
		}
		*f.bits = bits
	}
	if s.weekday&(1<<7) != 0 { // Sunday is 0 and 7.
		s.weekday |= 1
	}
	return s, nil
}

func isAny(part string) bool { return strings.HasPrefix(part, "*") || part == "?" }

func (f field) parse(text string) (bits uint64, err error) {
	for _, part := range strings.Split(text, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		low, high := f.low, f.high
		switch a, b, ranged := strings.Cut(span, "-"); {
		case span == "*" || span == "?":
			if f.name == "weekday" {
				high = 6
			}
		case ranged:
			if low, err = f.number(a); err == nil {
				high, err = f.number(b)
			}
		default:
			low, err = f.number(span)
			if !stepped {
				high = low
			}
		}
		if err != nil {
			return 0, err
		}
		step := 1
		if stepped {
			if step, err = strconv.Atoi(stepText); err != nil || step < 1 {
				return 0, fmt.Errorf("%s: step %q is not a positive number", f.name, stepText)
			}
		}
		if low < f.low || high > f.high || low > high {
			return 0, fmt.Errorf("%s: %q is not within %d to %d", f.name, part, f.low, f.high)
		}
		for n := low; n <= high; n += step {
			bits |= 1 << n
		}
	}
	return bits, nil
}

func (f field) number(text string) (int, error) {
	if i := slices.Index(f.words, strings.ToLower(text)); i >= 0 {
		return i + f.wordOffset, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: %q is not a number", f.name, text)
	}
	return n, nil
}

// Next returns the first time after t, in t's location; the zero time if there is none. A time that a change of clocks skips
// does not happen, one that it repeats happens the first time.
func (s *Schedule) Next(t time.Time) time.Time {
	if s.every > 0 {
		return t.Truncate(time.Second).Add(s.every)
	}
	loc := t.Location()
	t = t.Truncate(time.Minute).Add(time.Minute)
	for limit := t.Year() + maxYears; t.Year() <= limit; {
		switch {
		case s.month&(1<<int(t.Month())) == 0:
			t = forward(t, time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, loc))
		case !s.dayFits(t):
			t = forward(t, time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, loc))
		case s.hour&(1<<t.Hour()) == 0:
			// Hours are counted in elapsed time, so that clocks set back cannot hold the search.
			t = t.Add(time.Duration(60-t.Minute()) * time.Minute)
		case s.minute&(1<<t.Minute()) == 0:
			t = t.Add(time.Minute)
		default:
			return t
		}
	}
	return time.Time{}
}

// forward returns next, or if that is not later than t (a midnight that does not exist), an hour after t.
func forward(t, next time.Time) time.Time {
	if next.After(t) {
		return next
	}
	return t.Add(time.Hour)
}

func (s *Schedule) dayFits(t time.Time) bool {
	day, weekday := s.day&(1<<t.Day()) != 0, s.weekday&(1<<int(t.Weekday())) != 0
	if s.anyDay || s.anyWeekday {
		return day && weekday
	}
	return day || weekday
}
