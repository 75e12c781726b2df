// Package check is the vocabulary in which the kinds say what a valid object is. An Errors collects field errors in the
// order in which they are found; each method adds none or some, and the wording of all of them is Kubernetes'.
//
//	var e check.Errors
//	e.Label(path.Child("name"), c.Name)
//	check.OneOf(&e, path.Child("protocol"), p.Protocol, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)
//	return e.List
package check

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Errors is what was found wrong so far. The zero value is ready.
type Errors struct{ List field.ErrorList }

// Add adds errors found elsewhere.
func (e *Errors) Add(errs ...*field.Error) { e.List = append(e.List, errs...) }

// Required says that a value is missing.
func (e *Errors) Required(at *field.Path, detail string) { e.Add(field.Required(at, detail)) }

// Invalid says what is wrong with a value.
func (e *Errors) Invalid(at *field.Path, value any, detail string) {
	e.Add(field.Invalid(at, value, detail))
}

// Forbidden says that a value may not be there.
func (e *Errors) Forbidden(at *field.Path, detail string) { e.Add(field.Forbidden(at, detail)) }

// Duplicate says that a value was there before.
func (e *Errors) Duplicate(at *field.Path, value any) { e.Add(field.Duplicate(at, value)) }

// NotFound says that what a value refers to does not exist.
func (e *Errors) NotFound(at *field.Path, value any) { e.Add(field.NotFound(at, value)) }

// Each adds one Invalid per message.
func (e *Errors) Each(at *field.Path, value any, messages []string) {
	for _, m := range messages {
		e.Invalid(at, value, m)
	}
}

// Present requires a non-empty string and reports whether it is there.
func (e *Errors) Present(at *field.Path, value string) bool {
	if value == "" {
		e.Required(at, "")
	}
	return value != ""
}

// Label checks an RFC 1123 label.
func (e *Errors) Label(at *field.Path, value string) {
	e.Each(at, value, validation.IsDNS1123Label(value))
}

// RequiredLabel checks a label that must be there.
func (e *Errors) RequiredLabel(at *field.Path, value string) {
	if e.Present(at, value) {
		e.Label(at, value)
	}
}

// Subdomain checks an RFC 1123 subdomain.
func (e *Errors) Subdomain(at *field.Path, value string) {
	e.Each(at, value, validation.IsDNS1123Subdomain(value))
}

// QualifiedName checks what label keys and condition types are: an optional DNS prefix and a name.
func (e *Errors) QualifiedName(at *field.Path, value string) {
	e.Each(at, value, validation.IsQualifiedName(value))
}

// Labels checks a map of labels.
func (e *Errors) Labels(at *field.Path, labels map[string]string) {
	e.Add(metavalidation.ValidateLabels(labels, at)...)
}

// Annotations checks a map of annotations.
func (e *Errors) Annotations(at *field.Path, annotations map[string]string) {
	e.Add(apivalidation.ValidateAnnotations(annotations, at)...)
}

// Selector checks a label selector.
func (e *Errors) Selector(at *field.Path, s *metav1.LabelSelector) {
	e.Add(metavalidation.ValidateLabelSelector(s, metavalidation.LabelSelectorValidationOptions{}, at)...)
}

// LabelName checks a label key.
func (e *Errors) LabelName(at *field.Path, name string) {
	e.Add(metavalidation.ValidateLabelName(name, at)...)
}

// NonNegative checks a number.
func (e *Errors) NonNegative(at *field.Path, n int64) {
	e.Add(apivalidation.ValidateNonnegativeField(n, at)...)
}

// Immutable checks that a value is as it was.
func (e *Errors) Immutable(at *field.Path, value, old any) {
	e.Add(apivalidation.ValidateImmutableField(value, old, at)...)
}

// Frozen checks that a value is as it was, and says so as Forbidden.
func (e *Errors) Frozen(at *field.Path, value, old any, detail string) {
	if !equality.Semantic.DeepEqual(value, old) {
		e.Forbidden(at, detail)
	}
}

// Port checks a port number.
func (e *Errors) Port(at *field.Path, port int32) {
	e.Each(at, port, validation.IsValidPortNum(int(port)))
}

// PortOrName checks a port given by number or by name.
func (e *Errors) PortOrName(at *field.Path, port intstr.IntOrString) {
	switch port.Type {
	case intstr.Int:
		e.Each(at, port.IntValue(), validation.IsValidPortNum(port.IntValue()))
	case intstr.String:
		e.Each(at, port.StrVal, validation.IsValidPortName(port.StrVal))
	default:
		e.Add(field.InternalError(at, fmt.Errorf("unknown type: %v", port.Type)))
	}
}

// IP checks an address that older objects may hold in sloppy forms ("010.0.0.1"); new ones may not.
func (e *Errors) IP(at *field.Path, value string) bool {
	errs := validation.IsValidIPForLegacyField(at, value, true, nil)
	e.Add(errs...)
	return len(errs) == 0
}

// CIDR checks a subnet or mask as IP checks addresses.
func (e *Errors) CIDR(at *field.Path, value string) {
	e.Add(validation.IsValidCIDRForLegacyField(at, value, true, nil)...)
}

// RoutableIP refuses addresses that endpoints and external IPs may not be.
func (e *Errors) RoutableIP(at *field.Path, value string) {
	ip, err := netip.ParseAddr(value)
	if err != nil {
		e.Invalid(at, value, "must be a valid IP address")
		return
	}
	ip = ip.Unmap()
	switch {
	case ip.IsUnspecified():
		e.Invalid(at, value, fmt.Sprintf("may not be unspecified (%v)", value))
	case ip.IsLoopback():
		e.Invalid(at, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
	case ip.IsLinkLocalUnicast():
		e.Invalid(at, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
	case ip.IsLinkLocalMulticast():
		e.Invalid(at, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
	}
}

// OnePerFamily checks that addresses or subnets number at most two, of different families, without repetition. value is the
// list as the object holds it, and item what one element is called in the message.
func (e *Errors) OnePerFamily(at *field.Path, value any, items []string, item string) {
	if len(items) < 2 {
		return
	}
	families := map[bool]int{}
	for _, s := range items {
		families[strings.Contains(s, ":")]++
	}
	if families[true] != 1 || families[false] != 1 {
		e.Invalid(at, value, "may specify no more than one "+item+" for each IP family")
	}
	for i, s := range items {
		if slices.Contains(items[:i], s) {
			e.Duplicate(at.Index(i), s)
		}
	}
}

// FileMode checks permission bits.
func (e *Errors) FileMode(at *field.Path, mode *int32) {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		e.Invalid(at, *mode, "must be a number between 0 and 0777 (octal), both inclusive")
	}
}

// RelativePath refuses absolute paths and "..".
func (e *Errors) RelativePath(at *field.Path, p string) {
	if path.IsAbs(p) {
		e.Invalid(at, p, "must be a relative path")
	}
	e.NoBacksteps(at, p)
}

// NoBacksteps refuses ".." as an element of a path.
func (e *Errors) NoBacksteps(at *field.Path, p string) {
	if slices.Contains(strings.Split(p, "/"), "..") {
		e.Invalid(at, p, "must not contain '..'")
	}
}

// VolumePath checks the path of a file inside a projected volume: relative, without "..", and not starting with two dots,
// which the atomic writer keeps for itself.
func (e *Errors) VolumePath(at *field.Path, p string) {
	e.RelativePath(at, p)
	if strings.HasPrefix(p, "..") && !strings.HasPrefix(p, "../") {
		e.Invalid(at, p, "must not start with '..'")
	}
}

// NonNegativeQuantity checks an amount.
func (e *Errors) NonNegativeQuantity(at *field.Path, q resource.Quantity) {
	if q.Sign() < 0 {
		e.Invalid(at, q.String(), apivalidation.IsNegativeErrorMsg)
	}
}

// PositiveQuantity checks an amount that may not be zero.
func (e *Errors) PositiveQuantity(at *field.Path, q resource.Quantity) {
	if q.Sign() <= 0 {
		e.Invalid(at, q.String(), NotPositive)
	}
}

// NotPositive is the wording for numbers that must be above zero.
const NotPositive = "must be greater than zero"

// NonNegativeIntOrPercent checks "3" or "25%".
func (e *Errors) NonNegativeIntOrPercent(at *field.Path, v intstr.IntOrString) {
	switch v.Type {
	case intstr.String:
		e.Each(at, v, validation.IsValidPercent(v.StrVal))
	case intstr.Int:
		e.NonNegative(at, int64(v.IntValue()))
	default:
		e.Invalid(at, v, "must be an integer or percentage (e.g '5%%')")
	}
}

// AtMostAllPercent refuses percentages above 100%.
func (e *Errors) AtMostAllPercent(at *field.Path, v intstr.IntOrString) {
	if n, ok := percent(v); ok && n > 100 {
		e.Invalid(at, v, "must not be greater than 100%")
	}
}

// IsZeroIntOrPercent reports whether the value is 0 or "0%".
func IsZeroIntOrPercent(v intstr.IntOrString) bool {
	if n, ok := percent(v); ok {
		return n == 0
	}
	return v.Type == intstr.Int && v.IntVal == 0
}

func percent(v intstr.IntOrString) (int, bool) {
	if v.Type != intstr.String || len(validation.IsValidPercent(v.StrVal)) != 0 {
		return 0, false
	}
	n := 0
	for _, digit := range strings.TrimSuffix(v.StrVal, "%") {
		n = min(n*10+int(digit-'0'), 1<<30)
	}
	return n, true
}

// OneOf requires one of the allowed values.
func OneOf[T ~string](e *Errors, at *field.Path, value T, allowed ...T) {
	if value == "" {
		e.Required(at, "")
		return
	}
	Supported(e, at, value, allowed...)
}

// Supported refuses values that are not allowed; the empty one too, unless it is allowed.
func Supported[T ~string](e *Errors, at *field.Path, value T, allowed ...T) {
	if !slices.Contains(allowed, value) {
		e.Add(field.NotSupported(at, value, allowed))
	}
}

// Name checks a reference to an object by the rule for its kind's names.
func (e *Errors) Name(at *field.Path, name string, rule func(string, bool) []string) {
	e.Each(at, name, rule(name, false))
}
