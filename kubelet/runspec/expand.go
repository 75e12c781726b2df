package runspec

import "strings"

// Expand replaces $(NAME) by the value that lookup has for it, as Kubernetes does in commands, arguments and environment
// values: a name without a value stays as written, and $$ is a dollar sign that begins nothing.
func Expand(s string, lookup func(string) (string, bool)) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, "$")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		switch {
		case strings.HasPrefix(after, "$"):
			out.WriteByte('$')
			s = after[1:]
		case strings.HasPrefix(after, "("):
			name, rest, closed := strings.Cut(after[1:], ")")
			if !closed {
				out.WriteString("$(")
				s = after[1:]
				continue
			}
			if v, ok := lookup(name); ok {
				out.WriteString(v)
			} else {
				out.WriteString("$(" + name + ")")
			}
			s = rest
		default:
			out.WriteByte('$')
			s = after
		}
	}
}
