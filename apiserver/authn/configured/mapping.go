package configured

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/apiserver"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"

	"bareboat.dev/apiserver/authn"
)

// mapping says who the subject of an issuer's token is.
type mapping struct {
	of apiserver.JWTAuthenticator
	// expressions are those of it that are written in CEL.
	expressions authenticationcel.CELMapper
}

// identity holds claims to the rules, makes an identity of them, and holds that to the rules for users.
func (m mapping) identity(ctx context.Context, claims map[string]any) (*authn.Identity, error) {
	value, ok := types.DefaultTypeAdapter.NativeToValue(claims).(traits.Mapper)
	if !ok {
		return nil, errors.New("the claims are no object")
	}
	if err := m.checkClaims(ctx, claims, value); err != nil {
		return nil, err
	}
	id := &authn.Identity{Extra: map[string][]string{}}
	var err error
	if id.Name, err = m.username(ctx, claims, value); err != nil {
		return nil, err
	}
	if id.Groups, err = m.groups(ctx, claims, value); err != nil {
		return nil, err
	}
	if id.UID, err = m.uid(ctx, claims, value); err != nil {
		return nil, err
	}
	if err := m.extra(ctx, value, id.Extra); err != nil {
		return nil, err
	}
	if jti, ok := claims["jti"].(string); ok && jti != "" {
		id.Extra[authn.ExtraCredentialID] = []string{"JTI=" + jti}
	}
	return id, m.checkUser(ctx, id)
}

func (m mapping) checkClaims(ctx context.Context, claims map[string]any, value traits.Mapper) error {
	for _, r := range m.of.ClaimValidationRules {
		if r.Claim == "" {
			continue
		}
		if got, ok := claims[r.Claim].(string); !ok || got != r.RequiredValue {
			return fmt.Errorf("required claim %s does not have its value", r.Claim)
		}
	}
	if m.expressions.ClaimValidationRules == nil {
		return nil
	}
	results, err := m.expressions.ClaimValidationRules.EvalClaimMappings(ctx, value)
	if err != nil {
		return fmt.Errorf("error evaluating claim validation expression: %w", err)
	}
	return holds(results)
}

// holds reports the first rule that does not hold, with its message.
func holds(results []authenticationcel.EvaluationResult) error {
	for _, r := range results {
		if r.EvalResult == types.True {
			continue
		}
		message := ""
		switch rule := r.ExpressionAccessor.(type) {
		case *authenticationcel.ClaimValidationCondition:
			message = rule.Message
		case *authenticationcel.UserValidationCondition:
			message = rule.Message
		}
		return fmt.Errorf("validation expression '%s' failed: %s", r.ExpressionAccessor.GetExpression(), message)
	}
	return nil
}

func (m mapping) username(ctx context.Context, claims map[string]any, value traits.Mapper) (string, error) {
	by := m.of.ClaimMappings.Username
	if by.Expression != "" {
		r, err := m.expressions.Username.EvalClaimMapping(ctx, value)
		if err != nil {
			return "", fmt.Errorf("error evaluating username claim expression: %w", err)
		}
		name, ok := r.EvalResult.Value().(string)
		if !ok {
			return "", errors.New("error evaluating username claim expression: username claim expression must return a string")
		}
		if name == "" {
			return "", errors.New("empty username via CEL expression is not allowed")
		}
		return name, nil
	}
	name, err := text(claims, by.Claim)
	if err != nil {
		return "", err
	}
	if by.Claim == "email" {
		// An address that its owner has not confirmed could be anybody's; issuers that do not say are believed, as in Kubernetes.
		if said, ok := claims["email_verified"]; ok && said != true {
			return "", errors.New("email not verified")
		}
	}
	return prefix(by.Prefix) + name, nil
}

func prefix(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// text is a claim that must be there.
func text(claims map[string]any, name string) (string, error) {
	s, ok := claims[name].(string)
	if !ok {
		return "", fmt.Errorf("claim %s is not present or not a string", name)
	}
	if s == "" {
		return "", fmt.Errorf("claim %s is empty", name)
	}
	return s, nil
}

func (m mapping) groups(ctx context.Context, claims map[string]any, value traits.Mapper) ([]string, error) {
	by := m.of.ClaimMappings.Groups
	var groups []string
	switch {
	case by.Expression != "":
		r, err := m.expressions.Groups.EvalClaimMapping(ctx, value)
		if err == nil {
			groups, err = list(r.EvalResult)
		}
		if err != nil {
			return nil, fmt.Errorf("error evaluating group claim expression: %w", err)
		}
	case by.Claim != "":
		said, ok := claims[by.Claim]
		if !ok {
			break
		}
		all, err := list(types.DefaultTypeAdapter.NativeToValue(said))
		if err != nil {
			return nil, fmt.Errorf("claim %s is neither a string nor a list of strings", by.Claim)
		}
		for _, g := range all {
			groups = append(groups, prefix(by.Prefix)+g)
		}
	}
	return append(groups, authn.AllAuthenticated), nil
}

// list is a string or a list of strings, without those that are empty; null is none.
func list(v ref.Val) ([]string, error) {
	var all []string
	add := func(v ref.Val) error {
		s, ok := v.(types.String)
		if !ok {
			return fmt.Errorf("expression must return a string or a list of strings, not %v", v.Type())
		}
		if s != "" {
			all = append(all, string(s))
		}
		return nil
	}
	items, ok := v.(traits.Lister)
	switch {
	case v == types.NullValue:
		return nil, nil
	case !ok:
		return all, add(v)
	}
	for it := items.Iterator(); it.HasNext() == types.True; {
		if err := add(it.Next()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (m mapping) uid(ctx context.Context, claims map[string]any, value traits.Mapper) (string, error) {
	by := m.of.ClaimMappings.UID
	switch {
	case by.Claim != "":
		return text(claims, by.Claim)
	case by.Expression == "":
		return "", nil
	}
	r, err := m.expressions.UID.EvalClaimMapping(ctx, value)
	if err != nil {
		return "", fmt.Errorf("error evaluating uid claim expression: %w", err)
	}
	uid, ok := r.EvalResult.Value().(string)
	if !ok {
		return "", errors.New("error evaluating uid claim expression: uid claim expression must return a string")
	}
	return uid, nil
}

func (m mapping) extra(ctx context.Context, value traits.Mapper, into map[string][]string) error {
	if m.expressions.Extra == nil {
		return nil
	}
	results, err := m.expressions.Extra.EvalClaimMappings(ctx, value)
	if err != nil {
		return fmt.Errorf("error evaluating extra claim expression: %w", err)
	}
	for _, r := range results {
		e, ok := r.ExpressionAccessor.(*authenticationcel.ExtraMappingExpression)
		if !ok {
			continue
		}
		values, err := list(r.EvalResult)
		if err != nil {
			return fmt.Errorf("extra key %q: %w", e.Key, err)
		}
		if len(values) > 0 {
			into[e.Key] = values
		}
	}
	return nil
}

func (m mapping) checkUser(ctx context.Context, id *authn.Identity) error {
	if m.expressions.UserValidationRules == nil {
		return nil
	}
	info := &authenticationv1.UserInfo{Username: id.Name, UID: id.UID, Groups: id.Groups[:len(id.Groups)-1], Extra: map[string]authenticationv1.ExtraValue{}}
	for key, values := range id.Extra {
		info.Extra[key] = values
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(info)
	if err != nil {
		return err
	}
	value, ok := types.DefaultTypeAdapter.NativeToValue(content).(traits.Mapper)
	if !ok {
		return errors.New("the user is no object")
	}
	results, err := m.expressions.UserValidationRules.EvalUser(ctx, value)
	if err != nil {
		return fmt.Errorf("error evaluating user info validation rule: %w", err)
	}
	return holds(results)
}
