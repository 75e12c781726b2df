package expression

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
)

func input() *Input {
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "i"}, {Name: "b", Image: "j"}}},
	}
	request := &admissionv1.AdmissionRequest{Operation: admissionv1.Create, Name: "p", UserInfo: authenticationv1.UserInfo{Username: "jane", Groups: []string{"dev"}}}
	in := NewInput(request, pod, nil, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: map[string]string{"tier": "gold"}}})
	allow := rule(func(a *authz.Attributes) bool {
		return a.Verb == "get" && a.Resource == "pods" && a.User.Name == "jane"
	})
	return in.WithAuthorizer(&authn.Identity{Name: "jane"}, allow, "", "v1", "pods", "", "ns", "p")
}

type rule func(*authz.Attributes) bool

func (f rule) Authorize(_ context.Context, a *authz.Attributes) (authz.Decision, string, error) {
	if f(a) {
		return authz.Allow, "", nil
	}
	return authz.NoOpinion, "", nil
}

// TestEval shows what expressions see, and what does not compile.
func TestEval(t *testing.T) {
	tests := map[string]struct {
		text   string
		want   any
		failed string
	}{
		"object":        {"object.kind == 'Pod' && object.metadata.labels.app == 'web'", true, ""},
		"no old object": {"oldObject == null", true, ""},
		"lists":         {"object.spec.containers.all(c, c.image.startsWith('i'))", false, ""},
		"optional":      {"has(object.spec.hostNetwork)", false, ""},
		"request":       {"request.userInfo.username == 'jane' && 'dev' in request.userInfo.groups && request.operation == 'CREATE'", true, ""},
		"namespace":     {"namespaceObject.metadata.labels.tier == 'gold'", true, ""},
		"may":           {"authorizer.group('').resource('pods').namespace('ns').check('get').allowed()", true, ""},
		"may not":       {"authorizer.requestResource.check('delete').allowed()", false, ""},
		"libraries":     {"quantity('1Gi').isGreaterThan(quantity('1Mi')) && ip('10.0.0.1').family() == 4 && 'a1'.find('[0-9]') == '1'", true, ""},
		"no params":     {"params.x == 1", nil, "undeclared reference to 'params'"},
		"no such field": {"request.who == 'x'", nil, "undefined field 'who'"},
		"another type":  {"'x'", nil, "must evaluate to bool but got string"},
		"syntax":        {"object.", nil, "compilation failed: ERROR: <input>:1:8: Syntax error"},
		"missing":       {"object.spec.none == 1", nil, "no such key: none"},
	}
	env, err := NewCompiler().Environment(Scope{Authorizer: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := env.Compile(tt.text, cel.BoolType)
			budget := PolicyBudget
			var got any
			if err == nil {
				v, failed := p.Eval(t.Context(), input(), &budget)
				if err = failed; err == nil {
					got = v.Value()
				}
			}
			if got != tt.want || (err == nil) != (tt.failed == "") || err != nil && !strings.Contains(err.Error(), tt.failed) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// TestVariables shows that variables see each other, are evaluated once and only if looked at, and fail whoever looks at one that fails.
func TestVariables(t *testing.T) {
	env, err := NewCompiler().Composed(Scope{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range [][2]string{{"images", "object.spec.containers.map(c, c.image)"}, {"first", "variables.images[0]"}, {"broken", "object.none"}, {"wrong", "1 + 'a'"}} {
		if err := env.Declare(v[0], v[1]); (err != nil) != (v[0] == "wrong") {
			t.Errorf("%s: %v", v[0], err)
		}
	}
	for text, want := range map[string]string{
		"variables.first == 'i' && size(variables.images) == 2": "", "variables.broken == 1": `composited variable "broken" fails to evaluate`,
		"variables.wrong == 1": `composited variable "wrong" fails to compile`, "variables.other == 1": "undefined field 'other'",
	} {
		p, err := env.Compile(text, cel.BoolType)
		if err == nil {
			budget := PolicyBudget
			_, err = p.Eval(t.Context(), input(), &budget)
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestMessage shows that a message sees what the rule does, what variables were told by the authorizer included, but not the authorizer.
func TestMessage(t *testing.T) {
	env, err := NewCompiler().Composed(Scope{Authorizer: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := env.Declare("may", "authorizer.group('').resource('pods').namespace('ns').check('get').allowed()"); err != nil {
		t.Fatal(err)
	}
	if _, err := env.CompileMessage("string(authorizer.requestResource.check('get').allowed())"); err == nil || !strings.Contains(err.Error(), "undeclared reference to 'authorizer'") {
		t.Errorf("one of the authorizer: %v", err)
	}
	if _, err := env.CompileMessage("1"); err == nil || err.Error() != "must evaluate to string but got int" {
		t.Errorf("one that is no text: %v", err)
	}
	p, err := env.CompileMessage("object.metadata.name + ': the authorizer says ' + string(variables.may)")
	if err != nil {
		t.Fatal(err)
	}
	budget := PolicyBudget
	if v, err := p.Eval(t.Context(), input(), &budget); err != nil || v.Value() != "p: the authorizer says true" {
		t.Errorf("%v, %v", v, err)
	}
}

// TestBudget shows that an evaluation ends when it has cost too much, and that several share one budget.
func TestBudget(t *testing.T) {
	env, err := NewCompiler().Environment(Scope{})
	if err != nil {
		t.Fatal(err)
	}
	dear, err := env.Compile("[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, [1,2,3,4,5,6,7,8,9].all(f, a+b+c+d+e+f > 0))))))", cel.BoolType)
	if err != nil {
		t.Fatal(err)
	}
	budget := PolicyBudget
	if _, err := dear.Eval(t.Context(), input(), &budget); err == nil || !strings.Contains(err.Error(), "cost limit exceeded") {
		t.Errorf("one that is too dear: %v", err)
	}
	cheap, err := env.Compile("object.metadata.name == 'p'", cel.BoolType)
	if err != nil {
		t.Fatal(err)
	}
	budget = 7
	if _, err := cheap.Eval(t.Context(), input(), &budget); err != nil || budget >= 7 {
		t.Errorf("one that is cheap: %v, %d left", err, budget)
	}
	if _, err := cheap.Eval(t.Context(), input(), &budget); !errors.Is(err, ErrOutOfBudget) {
		t.Errorf("one too many: %v, %d left", err, budget)
	}
}

// TestConditions shows that one condition that does not hold outweighs errors, and that errors are told otherwise.
func TestConditions(t *testing.T) {
	env, err := NewCompiler().Environment(Scope{Authorizer: true})
	if err != nil {
		t.Fatal(err)
	}
	const holds, fails, broken = "object.metadata.name == 'p'", "object.metadata.name != 'p'", "object.none == 1"
	tests := map[string]struct {
		texts  []string
		match  bool
		failed string
	}{
		"none": {nil, true, ""}, "all": {[]string{holds, holds}, true, ""}, "not all": {[]string{holds, fails}, false, ""},
		"error": {[]string{holds, broken}, false, "no such key: none"}, "error and not": {[]string{broken, fails}, false, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var list []admissionregistrationv1.MatchCondition
			for _, text := range tt.texts {
				list = append(list, admissionregistrationv1.MatchCondition{Name: "c", Expression: text})
			}
			got, err := env.Conditions(list).Match(t.Context(), input(), MatchBudget)
			if got != tt.match || (err == nil) != (tt.failed == "") || err != nil && !strings.Contains(err.Error(), tt.failed) {
				t.Errorf("got %t, %v", got, err)
			}
		})
	}
}

// FuzzEval shows that no expression makes compiling or evaluating panic, or cost more than its budget.
func FuzzEval(f *testing.F) {
	for _, seed := range []string{"object.metadata.name == 'p'", "variables.x", "[1].map(x, x).exists(y, y == 1)", "'a'.matches('(a*)*b')", "quantity('1e9999999')", "{1: object}[1].spec", "ip('::1')", "'%d'.format([1])"} {
		f.Add(seed)
	}
	env, err := NewCompiler().Environment(Scope{Params: true, Authorizer: true, Patch: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		p, err := env.Compile(text, cel.AnyType)
		if err != nil {
			return
		}
		budget := MatchBudget
		if _, err := p.Eval(t.Context(), input(), &budget); err == nil && budget < 0 {
			t.Errorf("%q cost more than its budget", text)
		}
	})
}
